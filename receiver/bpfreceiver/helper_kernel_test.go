//go:build linux && kernel

package bpfreceiver

// The other process: the receiver never traces its own, so what the tests trace is done by a second instance of
// the test binary. It does one workload on one thread that has a name of its own, so that the events of that
// thread and nothing else can be asked for.

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"syscall"
	"testing"
	"unsafe"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

const (
	helperWorkload = "KERNELPIPE_TEST_WORKLOAD"
	helperArgument = "KERNELPIPE_TEST_ARGUMENT"
	helperCommand  = "KERNELPIPE_TEST_COMMAND"
	helperDir      = "KERNELPIPE_TEST_DIR" // the test's, so that it is removed however the helper ends
)

// workCommand is the name of the thread that works; a parallel run of the tests has another.
func workCommand() string {
	if name := os.Getenv(helperCommand); name != "" {
		return name
	}
	return fmt.Sprintf("kp%d", os.Getpid())
}

// TestHelperProcess is no test: it is what the other process runs.
func TestHelperProcess(t *testing.T) {
	name := os.Getenv(helperWorkload)
	if name == "" {
		return
	}
	work, ok := workloads[name]
	require.True(t, ok, name)
	input := bufio.NewReader(os.Stdin)
	fmt.Println("ready")
	_, err := input.ReadString('\n')
	require.NoError(t, err)
	h := &helper{t: t, input: input, dir: os.Getenv(helperDir)}
	if argument := os.Getenv(helperArgument); argument != "" {
		require.NoError(t, json.Unmarshal([]byte(argument), &h.argument))
	}
	runtime.LockOSThread() // never unlocked: the thread ends with the process
	work(h)
}

// process is a running helper.
type process struct {
	t      testing.TB
	cmd    *exec.Cmd
	input  io.WriteCloser
	output *bufio.Reader
}

// begin starts a helper, which waits for work to be called.
func begin(t testing.TB, workload string, argument any, attributes ...func(*exec.Cmd)) *process {
	t.Helper()
	encoded, err := json.Marshal(argument)
	require.NoError(t, err)
	cmd := exec.Command("/proc/self/exe", "-test.run=^TestHelperProcess$", "-test.count=1")
	cmd.Env = append(os.Environ(), helperWorkload+"="+workload, helperArgument+"="+string(encoded), helperCommand+"="+workCommand(), helperDir+"="+t.TempDir(),
		"GODEBUG=asyncpreemptoff=1", "GOGC=off", "GORACE=atexit_sleep_ms=0") // no signals and no collector on the thread
	cmd.Stderr = os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	for _, set := range attributes {
		set(cmd)
	}
	input, err := cmd.StdinPipe()
	require.NoError(t, err)
	output, err := cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	p := &process{t: t, cmd: cmd, input: input, output: bufio.NewReader(output)}
	t.Cleanup(func() {
		if cmd.ProcessState == nil {
			_ = cmd.Process.Kill()
			_ = cmd.Wait()
		}
	})
	p.expect("ready")
	return p
}

func (p *process) pid() int64 { return int64(p.cmd.Process.Pid) }

// expect reads one line.
func (p *process) expect(line string) {
	p.t.Helper()
	require.Equal(p.t, line+"\n", p.line())
}

func (p *process) line() string {
	p.t.Helper()
	line, err := p.output.ReadString('\n')
	require.NoError(p.t, err, "helper ended early: %s", line)
	return line
}

// tell lets the helper go on.
func (p *process) tell() {
	p.t.Helper()
	_, err := io.WriteString(p.input, "go\n")
	require.NoError(p.t, err)
}

// end waits for the helper to finish its work with success.
func (p *process) end() string {
	p.t.Helper()
	output, err := io.ReadAll(p.output)
	require.NoError(p.t, err)
	require.NoError(p.t, p.cmd.Wait(), "%s", output)
	return string(output)
}

// work has a helper do one workload from beginning to end.
func work(t testing.TB, workload string, argument any) {
	t.Helper()
	p := begin(t, workload, argument)
	p.tell()
	p.end()
}

// helper is what a workload works with.
type helper struct {
	t        testing.TB
	input    *bufio.Reader
	dir      string
	argument argument
}

// argument is what a test tells a workload.
type argument struct {
	N       int
	UID     int
	PinPath string
	Events  int64

	Capabilities []int
	Action       uint32 // of seccomp
	Flags        uint64 // of sigaction(2)
	Stop         bool
}

// must ends the helper, with a trace that the test shows.
func must(err error) {
	if err != nil {
		panic(err)
	}
}

func must1[T any](value T, err error) T {
	must(err)
	return value
}

// named does something under the name that the tests ask for.
func (h *helper) named(do func()) {
	var before [16]byte
	must(unix.Prctl(unix.PR_GET_NAME, uintptr(unsafe.Pointer(&before)), 0, 0, 0))
	rename(workCommand())
	do()
	rename(string(before[:]))
}

func rename(name string) {
	var room [16]byte
	copy(room[:15], name)
	must(unix.Prctl(unix.PR_SET_NAME, uintptr(unsafe.Pointer(&room)), 0, 0, 0))
}

// wait says what has been reached and waits until it is told to go on. It is done on another thread.
func (h *helper) wait(reached string) {
	done := make(chan error)
	go func() {
		fmt.Println(reached)
		_, err := h.input.ReadString('\n')
		done <- err
	}()
	must(<-done)
}

// crash is the end of a receiver as a kill leaves it: nothing detached, nothing drained.
func crash(t *testing.T, r *bpfReceiver) {
	t.Helper()
	r.stopWatchingPins()
	r.simulator.stop()
	now, cancel := context.WithCancel(context.Background())
	cancel()
	r.drain.stop(now)
	r.losses.stop()
	assert.NoError(t, r.release())
}
