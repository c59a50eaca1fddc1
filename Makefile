# Every target does its own set-up. `make run`, `make test` and `make bench` need root and a kernel with
# BTF, nothing else beside Go: the BPF objects are committed. `make generate` also needs clang-19.

BUILD     := $(CURDIR)/_build
TOOLS     := $(BUILD)/tools
COLLECTOR := $(BUILD)/otelcol-kernelpipe

# The tools come first, so that go:generate lines can name them; sudo often drops Go's directory.
export PATH := $(TOOLS):$(PATH):/usr/local/go/bin

# What bpf2go compiles BPF programs with. The objects are reproducible only with this very compiler.
export BPF2GO_CC     := clang-19
export BPF2GO_STRIP  := llvm-strip-19
export BPF2GO_CFLAGS := -O2 -g -Wall -Werror -mcpu=v3

# ocb takes environment variables that are named like a key of its manifest for that key.
unexport dist receivers processors connectors exporters extensions providers converters telemetry \
	replaces excludes conf_resolver default_uri_scheme CONVERTERS TELEMETRY REPLACES EXCLUDES \
	CONF_RESOLVER DEFAULT_URI_SCHEME

# The race detector needs a C compiler.
RACE := $(if $(shell command -v $(CC) 2>/dev/null),-race)

# Tests that attach programs or pin maps are in *_kernel_test.go files with this build tag.
KERNEL := -tags kernel

BENCHTIME ?= 1s

.DEFAULT_GOAL := help
.PHONY: help build run test test-unit test-kernels test-backends bench generate lint clean root mounts race

help: ## show this text
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-14s %s\n", $$1, $$2 }' Makefile

build: $(TOOLS)/builder ## build the collector, _build/otelcol-kernelpipe, with ocb from builder-config.yaml
	GOFLAGS="$(GOFLAGS) -buildvcs=false" builder --config builder-config.yaml

run: root build mounts ## build, then run the collector with config.yaml (root)
	@exec $(COLLECTOR) --config config.yaml

# Packages share the kernel, so they are tested one at a time. -p 1 would also compile one at a time: hence
# the build beforehand.
test: root build mounts race ## all tests, on this machine's kernel (root)
	go build $(RACE) ./...
	go test $(RACE) $(KERNEL) -p 1 -count 1 -timeout 20m ./...

test-unit: race ## the tests that need neither root nor BPF
	go test $(RACE) ./...

# Which kernels test-kernels boots.
KERNELS ?= 5.10 6.1 6.12

test-kernels: build ## kernel tests on 5.10, 6.1, 6.12 in virtual machines; KERNELS=6.1 for one (qemu-system-x86, cpio, Debian's apt)
	internal/kernels/run $(KERNELS)

# Which backends test-backends reads metrics back from.
BACKENDS ?= victoria-metrics prometheus

test-backends: root build mounts race $(BACKENDS:%=$(BUILD)/backends/%) ## metrics read back from VictoriaMetrics and Prometheus; BACKENDS=prometheus for one (root)
	cd internal/backends && go test $(RACE) $(KERNEL) -count 1 -run "TestBackend/^($$(echo $(BACKENDS) | tr ' ' '|'))$$" .

$(BUILD)/backends/victoria-metrics:
	GOBIN=$(@D) go install github.com/VictoriaMetrics/VictoriaMetrics/app/victoria-metrics@v1.150.0

$(BUILD)/backends/prometheus: # without service discovery: that is a third less to compile
	GOBIN=$(@D) go install -tags remove_all_sd github.com/prometheus/prometheus/cmd/prometheus@v0.316.0

bench: root build mounts ## all benchmarks; BENCHTIME=1x for a short run (root)
	go test $(KERNEL) -p 1 -timeout 30m -run '^$$' -bench . -benchmem -benchtime $(BENCHTIME) ./...
	cd internal/benchmarks && go test $(KERNEL) -timeout 30m -run '^$$' -bench . -benchmem -benchtime $(BENCHTIME) .

generate: $(TOOLS)/bpf2go $(TOOLS)/mdatagen ## regenerate BPF objects, metadata and telemetry (clang-19, libbpf-dev)
	@command -v $(BPF2GO_CC) >/dev/null && command -v $(BPF2GO_STRIP) >/dev/null || { \
		echo "make generate: $(BPF2GO_CC) or $(BPF2GO_STRIP) not found; on Debian: apt-get install clang-19 llvm-19 libbpf-dev" >&2; exit 1; }
	go generate ./...
	go fmt ./...

# What compiles on Windows compiles on every system that is not Linux: the code there is the same, and Windows lacks
# golang.org/x/sys/unix besides.
lint: $(TOOLS)/golangci-lint ## golangci-lint, go vet among it; compile for Linux on arm64, and for Windows
	golangci-lint run
	cd internal/benchmarks && golangci-lint run
	cd internal/backends && golangci-lint run
	GOOS=linux GOARCH=arm64 go build ./...
	GOOS=windows GOARCH=amd64 go build ./...

clean: ## remove _build
	rm -rf $(BUILD)

$(TOOLS)/%: internal/tools/go.mod
	cd internal/tools && go build -o $@ $$(go list tool | grep '/$*$$')

root:
	@[ "$$(id -u)" = 0 ] || { \
		echo "make $(MAKECMDGOALS): needs root, to load BPF programs. Remedy: sudo make $(MAKECMDGOALS)" >&2; exit 1; }

# bpffs keeps pinned objects. Without a mode everyone may write to it. Plain tracepoints are found in tracefs.
mounts: root
	@mountpoint -q /sys/fs/bpf || mount -t bpf -o mode=0700 bpf /sys/fs/bpf
	@mountpoint -q /sys/kernel/tracing || mount -t tracefs tracefs /sys/kernel/tracing

race:
	@[ -n "$(RACE)" ] || echo "make: no C compiler ($(CC)), so the tests run without the race detector" >&2
