//go:build linux && kernel

package bpfenrichprocessor

// With cgroup v1 events do not say which cgroup their process was in: the process table has to know it.

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/consumer"
	"go.opentelemetry.io/collector/pdata/plog"

	"github.com/kernelpipe/kernelpipe/internal/event"
)

// gated hands on while mu is free.
type gated struct {
	mu   sync.Mutex
	next consumer.Logs
}

func (*gated) Capabilities() consumer.Capabilities { return consumer.Capabilities{} }

func (g *gated) ConsumeLogs(ctx context.Context, logs plog.Logs) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.next.ConsumeLogs(ctx, logs)
}

// A process is moved among cgroups, and after each move it and a child that it forks then do something. Their events have
// the container that the process was in at that time, whether they are enriched at once or at the end.
func TestProcessLeavesItsContainer(t *testing.T) {
	shell, err := os.ReadFile("/bin/sh")
	require.NoError(t, err)
	inner := strings.Repeat("0123456789abcdef", 4)
	service := "/system.slice/" + strings.Repeat("a-service-with-a-long-name", 4) + ".service"
	leaver := filepath.Join(t.TempDir(), "kp-leaver")
	require.NoError(t, os.WriteFile(leaver, shell, 0o700))
	next := &sink{}
	gate := &gated{next: start(t, newConfig(), next)}
	traceBy(t, gate, map[string]any{"probes": map[string]any{"filesystem": map[string]any{
		"command": []any{"kp-leaver"}, "operation": []any{"open"}, "errors_only": true,
	}}})
	type step struct{ hierarchy, cgroup, container string }
	for _, test := range []struct {
		name  string
		steps []step
	}{
		{"to the root", []step{{"a", "/docker/" + containerID, containerID}, {"a", "", ""}}},
		{"to a service", []step{{"a", "/docker/" + containerID, containerID}, {"a", service, ""}}},
		{"and comes back", []step{{"a", "/docker/" + containerID, containerID}, {"a", "", ""}, {"a", "/docker/" + containerID, containerID}}},
		{"of one hierarchy after the other", []step{
			{"a", "/docker/" + containerID, containerID}, {"b", "/docker/" + containerID, containerID}, {"a", "", containerID}, {"b", "", ""},
		}},
		{"is in it in one hierarchy only", []step{
			{"a", "/docker/" + containerID, containerID}, {"b", service, containerID}, {"b", "", containerID}, {"a", service, ""},
		}},
		{"to the outer one", []step{
			{"a", "/docker/" + containerID, containerID}, {"a", "/docker/" + containerID + "/docker/" + inner, inner}, {"a", "/docker/" + containerID, containerID},
		}},
		{"is nested in one hierarchy only", []step{
			{"a", "/docker/" + containerID + "/docker/" + inner, inner}, {"b", "/docker/" + containerID, inner}, {"a", "/docker/" + containerID, containerID},
		}},
		{"to another one", []step{{"a", "/docker/" + containerID, containerID}, {"a", "/docker/" + inner, inner}}},
	} {
		for _, held := range []bool{true, false} {
			t.Run(fmt.Sprintf("%s, at the end %v", test.name, held), func(t *testing.T) {
				roots := map[string]string{}
				for _, step := range test.steps {
					if roots[step.hierarchy] == "" {
						roots[step.hierarchy] = strings.TrimSuffix(mountCgroups(t, "cgroup", "none,name=kernelpipe-"+step.hierarchy, "/x"), "/x")
					}
					root := roots[step.hierarchy]
					require.NoError(t, os.MkdirAll(root+step.cgroup, 0o700))
					t.Cleanup(func() { // before the root is unmounted
						for at := root + step.cgroup; at != root; at = filepath.Dir(at) {
							_ = os.Remove(at) // another step may have removed it, or another is in it
						}
					})
				}
				open := func() {}
				if held {
					gate.mu.Lock()
					open = sync.OnceFunc(gate.mu.Unlock)
					defer open()
				}
				before := len(next.all())
				cmd := exec.Command(leaver, "-c", `while read n cgroup; do
	command exec 9> $cgroup/cgroup.procs; echo 0 >&9
	command exec 3< /nonexistent/$n
	(command exec 3< /nonexistent/child-$n)
	echo $n
done`)
				input, err := cmd.StdinPipe()
				require.NoError(t, err)
				output, err := cmd.StdoutPipe()
				require.NoError(t, err)
				require.NoError(t, cmd.Start())
				defer func() { _ = cmd.Wait() }()
				defer func() { _ = input.Close() }()
				found := func(i int) map[string]string {
					got := map[string]string{}
					for _, e := range next.all()[before:] {
						name, ok := strings.CutPrefix(e.Event.Name(), "/nonexistent/")
						if ok && strings.TrimPrefix(name, "child-") == strconv.Itoa(i) {
							got[name] = e.Context.ContainerIDText()
							assert.Equal(t, event.MissingNothing, e.Context.Reason)
						}
					}
					return got
				}
				check := func(i int) {
					require.Eventually(t, func() bool { return len(found(i)) == 2 }, 20*time.Second, time.Millisecond)
					want := test.steps[i].container
					assert.Equal(t, map[string]string{strconv.Itoa(i): want, "child-" + strconv.Itoa(i): want}, found(i), "step %d", i)
				}
				for i, step := range test.steps {
					_, err := fmt.Fprintf(input, "%d %s\n", i, roots[step.hierarchy]+step.cgroup)
					require.NoError(t, err)
					var done int
					_, err = fmt.Fscan(output, &done)
					require.NoError(t, err)
					if !held {
						check(i)
					}
				}
				open()
				for i := range test.steps {
					check(i)
				}
			})
		}
	}
}
