package bpfreceiver

import (
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/config/configoptional"
	"go.opentelemetry.io/collector/confmap"
	"go.opentelemetry.io/collector/confmap/confmaptest"

	"github.com/kernelpipe/kernelpipe/internal/event"
	"github.com/kernelpipe/kernelpipe/internal/match"
	"github.com/kernelpipe/kernelpipe/internal/stage"
	"github.com/kernelpipe/kernelpipe/internal/syscalls"
)

func load(t *testing.T, file string) *confmap.Conf {
	t.Helper()
	conf, err := confmaptest.LoadConf(filepath.Join("testdata", file))
	require.NoError(t, err)
	return conf
}

func ptr(n int64) *int64 { return &n }

// queue returns the block as it is by default but for the change.
func queue(change func(*QueueConfig)) configoptional.Optional[QueueConfig] {
	config := QueueConfig{DeadLetter: stage.DeadLetterConfig{Capacity: 1_000, OnFull: stage.DropOldest}, Retry: stage.NewRetryConfig()}
	change(&config)
	return configoptional.Some(config)
}

func TestValidConfigs(t *testing.T) {
	on := configoptional.Some(ProbeConfig{})
	for name, change := range map[string]func(*Config){
		"one_probe":   func(c *Config) { c.Probes.Process = on },
		"empty_block": func(c *Config) { c.Probes.Network = on },
		"categories": func(c *Config) {
			c.Probes.Syscall = configoptional.Some(SyscallConfig{Exclude: defaultExclude()})
			c.Probes.Network, c.Probes.Filesystem, c.Probes.Process = on, on, on
		},
		"all": func(c *Config) {
			c.PinPath = "/sys/fs/bpf/other"
			c.Probes.Syscall = configoptional.Some(SyscallConfig{
				Include: []string{"openat", "connect"}, Exclude: []string{"read"}, PID: match.Range{Min: ptr(100)}, UID: match.Range{Max: ptr(0)},
				Command: []string{"nginx"}, ErrorsOnly: true, MinDuration: time.Millisecond,
			})
			c.Probes.Network = configoptional.Some(ProbeConfig{
				Operation: []string{"connect", "retransmit"}, PID: match.Range{Min: ptr(1), Max: ptr(99)},
			})
			c.Probes.Simulate = configoptional.Some(SimulateConfig{
				Events: 5, Rate: 10, Seed: 7, PID: SimulatedPIDs{Min: 5, Max: 6}, Mix: SimulatedMix{Network: 2, Filesystem: 1, Process: 1},
			})
			c.RingBuffer.Size = MiB
			c.Encoding = event.EncodingRecords
			c.PollInterval = time.Second
			c.KeepOnShutdown = true
			c.ShutdownTimeout = 0
		},
		"simulate_alone": func(c *Config) {
			c.PinPath = ""
			c.Probes.Simulate = configoptional.Some(SimulateConfig{
				Events: 1_000_000, Seed: 1, PID: SimulatedPIDs{Min: 100, Max: 1099}, Mix: SimulatedMix{Syscall: 1, Network: 1, Filesystem: 1, Process: 1},
			})
			c.RingBuffer.Size = 64 * KiB
		},
		"syscall_include": func(c *Config) {
			c.Probes.Syscall = configoptional.Some(SyscallConfig{Include: []string{"read", "write"}})
		},
		"syscall_exclude": func(c *Config) {
			c.Probes.Syscall = configoptional.Some(SyscallConfig{Exclude: []string{"openat"}})
		},
		"syscall_everything": func(c *Config) {
			c.Probes.Syscall = configoptional.Some(SyscallConfig{Exclude: []string{}})
		},
		"queue_alone": func(c *Config) {
			c.Queue = queue(func(c *QueueConfig) { c.Name = "handoff" })
		},
		"queue_beside_probes": func(c *Config) {
			c.Probes.Process = on
			c.Queue = queue(func(c *QueueConfig) {
				c.DeadLetterOf = "processor/bpf_filter/2"
				c.DeadLetter = stage.DeadLetterConfig{Capacity: 10, OnFull: stage.DropNewest}
				c.Retry.MaxElapsedTime = time.Minute
			})
		},
		"peek": func(c *Config) {
			c.Queue = queue(func(c *QueueConfig) { c.DeadLetterOf, c.Peek = "receiver/bpf/replay", true })
		},
	} {
		t.Run(name, func(t *testing.T) {
			conf, err := load(t, "valid.yaml").Sub(name)
			require.NoError(t, err)
			config := newConfig()
			require.NoError(t, conf.Unmarshal(config))
			want := newConfig()
			change(want)
			assert.Equal(t, want, config)
			assert.NoError(t, confmap.Validate(config))
		})
	}
}

func TestInvalidConfigs(t *testing.T) {
	cases := load(t, "invalid.yaml")
	for name := range cases.ToStringMap() {
		t.Run(name, func(t *testing.T) {
			test, err := cases.Sub(name)
			require.NoError(t, err)
			if strings.Contains(name, "syscall") && len(syscalls.Names()) == 0 {
				t.Skip("the names of system calls are known on Linux only")
			}
			conf, err := test.Sub("config")
			require.NoError(t, err)
			want, ok := test.Get("error").(string)
			require.True(t, ok)
			config := newConfig()
			if err = conf.Unmarshal(config); err == nil {
				err = confmap.Validate(config)
			}
			assert.EqualError(t, err, strings.ReplaceAll(want, "ARCH", runtime.GOARCH))
		})
	}
}

func TestEverySyscallExcluded(t *testing.T) {
	if len(syscalls.Names()) == 0 {
		t.Skip("the names of system calls are known on Linux only")
	}
	config := SyscallConfig{Exclude: syscalls.Names()}
	assert.EqualError(t, config.Validate(), "every system call is excluded: shorten exclude, or leave out syscall")
}

func TestNumbers(t *testing.T) {
	if len(syscalls.Names()) == 0 {
		t.Skip("the names of system calls are known on Linux only")
	}
	number := func(name string) int {
		number, ok := syscalls.Number(name)
		require.True(t, ok, name)
		return number
	}
	included := SyscallConfig{Include: []string{"openat", "connect"}}
	assert.ElementsMatch(t, []int{number("openat"), number("connect")}, included.numbers())

	all := SyscallConfig{}
	assert.Len(t, all.numbers(), len(syscalls.Names())-len(neverReturns))

	byDefault := SyscallConfig{Exclude: defaultExclude()}
	require.NoError(t, byDefault.Validate())
	numbers := byDefault.numbers()
	for _, name := range []string{"openat", "connect", "execve", "clone", "unlinkat", "mkdirat", "setuid", "ptrace", "bpf", "mount"} {
		assert.Contains(t, numbers, number(name), name)
	}
	for _, name := range []string{"read", "write", "futex", "getpid", "mmap", "exit_group"} {
		assert.NotContains(t, numbers, number(name), name)
	}
}

// Every name in the default list is a system call of an architecture that is known.
func TestDefaultExcludeIsKnown(t *testing.T) {
	elsewhere := map[string][]string{
		"amd64": {},
		"arm64": {
			"access", "dup2", "epoll_ctl_old", "epoll_wait", "epoll_wait_old", "getdents", "getpgrp", "lstat", "newfstatat", "pause", "poll",
			"readlink", "select", "stat", "time", "fstat",
		},
	}[runtime.GOARCH]
	if len(syscalls.Names()) == 0 || elsewhere == nil {
		t.Skip("the names of system calls are known on Linux only")
	}
	for _, name := range defaultExclude() {
		if _, ok := syscalls.Number(name); !ok {
			assert.Contains(t, elsewhere, name)
		}
	}
}

func TestSize(t *testing.T) {
	for text, want := range map[string]Size{
		"0": 0, "1": 1, "65536": 64 * KiB, "7B": 7, "64KiB": 64 * KiB, "8MiB": 8 * MiB, "8 MiB": 8 * MiB, "1GiB": GiB,
	} {
		var size Size
		require.NoError(t, size.UnmarshalText([]byte(text)), text)
		assert.Equal(t, want, size, text)
	}
	for _, text := range []string{"", "MiB", "-1", "-1MiB", "8MB", "8mib", "1.5MiB", "0x10", "9223372036854775807KiB", "8 "} {
		var size Size
		assert.ErrorContains(t, size.UnmarshalText([]byte(text)), "is no size", text)
	}
	for size, want := range map[Size]string{0: "0B", 1: "1B", 1536: "1536B", 64 * KiB: "64KiB", 8 * MiB: "8MiB", 2 * GiB: "2GiB", -1: "-1B"} {
		assert.Equal(t, want, size.String())
		text, err := size.MarshalText()
		require.NoError(t, err)
		assert.Equal(t, want, string(text))
	}
}

func FuzzSize(f *testing.F) {
	for _, seed := range []string{"8MiB", "1", "-1", "9223372036854775807GiB", "B", " 1KiB"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		var size Size
		if size.UnmarshalText([]byte(text)) != nil {
			return
		}
		require.GreaterOrEqual(t, size, Size(0))
		var again Size
		require.NoError(t, again.UnmarshalText([]byte(size.String())))
		require.Equal(t, size, again)
	})
}

func TestEditDistance(t *testing.T) {
	for _, test := range []struct {
		a, b string
		want int
	}{{"", "", 0}, {"openat", "openat", 0}, {"opneat", "openat", 2}, {"open", "openat", 2}, {"", "read", 4}, {"raed", "", 4}} {
		assert.Equal(t, test.want, editDistance(test.a, test.b), "%s %s", test.a, test.b)
	}
}
