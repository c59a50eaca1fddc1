package bpfenrichprocessor

import (
	"errors"
	"os"

	"go.uber.org/zap"

	"github.com/kernelpipe/kernelpipe/internal/event"
	"github.com/kernelpipe/kernelpipe/processor/bpfenrichprocessor/internal/cgroupfs"
	"github.com/kernelpipe/kernelpipe/processor/bpfenrichprocessor/internal/container"
	"github.com/kernelpipe/kernelpipe/processor/bpfenrichprocessor/internal/procfs"
)

// identity tells a program that a process runs from all others, also from those of processes that have its pid before and
// after it.
type identity struct {
	start uint64 // boot-time ns
	tgid  uint32
	exec  uint32 // which of the programs of the process; 0: not known. As wide as that, so that the key of a map has no padding
}

func identityOf(e *event.Event) identity {
	return identity{e.Process.Start, e.Process.TGID, uint32(e.ExecNumber)}
}

// facts are what a source knows of a process.
type facts struct {
	comm       string // of the main thread
	executable string // base name; empty: none, or not known
	denied     bool   // the executable may not be seen
	nameless   bool   // it has no executable, as a thread of the kernel's, or one without a name
	parent     string // comm of the parent
	parentTGID uint32 // 0: none, or not known
	container  container.Identity
}

// errNotFound says that a source knows nothing of what it was asked about, and never will.
var errNotFound = errors.New("not found")

// processSource knows facts about processes. One goroutine at a time uses it.
type processSource interface {
	// process returns the facts, or errNotFound.
	process(identity) (facts, error)
}

// cgroupSource knows containers by their cgroup's id. Any number of goroutines may use it.
type cgroupSource interface {
	// cgroup returns the container that the cgroup is of, or errNotFound, or errDenied.
	cgroup(id uint64) (container.Identity, error)
}

// errDenied says that the process may not ask.
var errDenied = errors.New("denied")

// procSource knows the processes that live, from /proc.
type procSource struct{ reader *procfs.Reader }

func newProcSource() processSource { return procSource{procfs.NewReader("/proc")} }

func (s procSource) process(id identity) (facts, error) {
	p, err := s.reader.Process(id.tgid, id.start)
	if errors.Is(err, procfs.ErrNotFound) {
		return facts{}, errNotFound
	}
	if err != nil {
		return facts{}, err
	}
	return facts{
		comm: p.Comm, executable: p.Executable, denied: p.Denied, nameless: p.Kernel,
		parent: p.ParentComm, parentTGID: p.Parent, container: container.OfCgroupFile(p.Cgroup),
	}, nil
}

// mountSource knows the cgroups of a mounted cgroup v2 file system.
type mountSource struct{ mount *cgroupfs.FS }

// openMountSource returns nil, and says so, where there is none: with cgroup v1 alone the processes tell.
func openMountSource(logger *zap.Logger) *mountSource {
	mountinfo, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		logger.Warn("no containers are looked up by cgroup id", zap.Error(err))
		return nil
	}
	mount, err := cgroupfs.Open(mountinfo)
	if err != nil {
		logger.Info("no containers are looked up by cgroup id", zap.Error(err))
		return nil
	}
	return &mountSource{mount}
}

func (s *mountSource) cgroup(id uint64) (container.Identity, error) {
	path, err := s.mount.Path(id)
	switch {
	case errors.Is(err, cgroupfs.ErrNotFound):
		return container.Identity{}, errNotFound
	case errors.Is(err, cgroupfs.ErrDenied):
		return container.Identity{}, errDenied
	case err != nil:
		return container.Identity{}, err
	}
	return container.OfCgroup(path), nil
}

func (s *mountSource) close() {
	if s != nil {
		s.mount.Close()
	}
}
