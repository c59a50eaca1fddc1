//go:build linux && kernel

package backends

import (
	"bytes"
	"context"
	"net"
	"net/http"
	"os/exec"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// patience is how long the tests wait for what has to come.
const patience = 60 * time.Second

// start runs a program until the end of the test, and returns when it answers at url. It has to end well
// after SIGTERM.
func start(t *testing.T, url, program string, arguments ...string) {
	t.Helper()
	var log bytes.Buffer
	command := exec.Command(program, arguments...)
	command.Stdout, command.Stderr = &log, &log // written by one goroutine, until Wait returns
	require.NoError(t, command.Start(), "run `make test-backends`, which builds what this needs")
	exited := make(chan error, 1)
	go func() { exited <- command.Wait() }()
	ended := false
	t.Cleanup(func() {
		if !ended {
			assert.NoError(t, command.Process.Signal(syscall.SIGTERM))
			select {
			case err := <-exited:
				assert.NoError(t, err, program)
			case <-time.After(patience):
				assert.Fail(t, "no end after SIGTERM", program)
				_ = command.Process.Kill() // it may end just now
				<-exited                   //nolint:errcheck // killed
			}
		}
		if t.Failed() {
			t.Logf("%s:\n%s", program, log.Bytes()[max(0, log.Len()-10_000):])
		}
	})
	for deadline := time.Now().Add(patience); !answers(t.Context(), url); {
		select {
		case err := <-exited:
			ended = true
			require.FailNow(t, "ended early", "%s: %v", program, err)
		case <-time.After(20 * time.Millisecond):
		}
		require.True(t, time.Now().Before(deadline), "%s does not answer at %s", program, url)
	}
}

func answers(ctx context.Context, url string) bool {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, http.NoBody)
	if err != nil {
		return false
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return false
	}
	return response.Body.Close() == nil && response.StatusCode == http.StatusOK
}

// freeAddress returns an address on loopback at which nothing listens.
func freeAddress(t *testing.T) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer func() { assert.NoError(t, listener.Close()) }()
	return listener.Addr().String()
}
