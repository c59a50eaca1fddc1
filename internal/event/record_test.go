package event

import (
	"flag"
	"math"
	"math/rand/v2"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"

	"github.com/open-telemetry/opentelemetry-collector-contrib/pkg/golden"
	"github.com/open-telemetry/opentelemetry-collector-contrib/pkg/pdatatest/plogtest"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/plog"
	"go.opentelemetry.io/otel/attribute"
	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"
)

var update = flag.Bool("update", false, "write the golden files")

func TestSemanticConventions(t *testing.T) {
	assert.Equal(t, semconv.SchemaURL, schemaURL)
	for ours, theirs := range map[string]attribute.Key{
		attributePID: semconv.ProcessPIDKey, attributeParentPID: semconv.ProcessParentPIDKey,
		attributeExecutableName: semconv.ProcessExecutableNameKey, attributeExecutablePath: semconv.ProcessExecutablePathKey,
		attributeExitCode: semconv.ProcessExitCodeKey, attributeThreadID: semconv.ThreadIDKey, attributeThreadName: semconv.ThreadNameKey,
		attributeUserID: semconv.UserIDKey, attributeUserName: semconv.UserNameKey,
		attributeContainerID: semconv.ContainerIDKey, attributePodUID: semconv.K8SPodUIDKey,
		attributeFileName: semconv.FileNameKey, attributeFilePath: semconv.FilePathKey,
		attributeNetworkTransport: semconv.NetworkTransportKey, attributeNetworkType: semconv.NetworkTypeKey,
		attributeLocalAddress: semconv.NetworkLocalAddressKey, attributeLocalPort: semconv.NetworkLocalPortKey,
		attributePeerAddress: semconv.NetworkPeerAddressKey, attributePeerPort: semconv.NetworkPeerPortKey,
		attributeErrorType: semconv.ErrorTypeKey,
	} {
		assert.Equal(t, string(theirs), ours)
	}
	assert.Equal(t, semconv.ErrorTypeOther.Value.AsString(), otherError)
	for value, key := range map[string]attribute.KeyValue{
		"tcp": semconv.NetworkTransportTCP, "udp": semconv.NetworkTransportUDP, "unix": semconv.NetworkTransportUnix,
		"ipv4": semconv.NetworkTypeIPv4, "ipv6": semconv.NetworkTypeIPv6,
	} {
		assert.Equal(t, key.Value.AsString(), value)
	}
}

// examples is one event of each kind.
func examples() []Event {
	of := func(c Category, operation uint16, result int64, change func(*Event)) Event {
		e := connect()
		e.Category, e.Operation, e.Result, e.Priority = c, operation, result, c.Priority()
		e.Payload = [NameLen]byte{}
		if change != nil {
			change(&e)
		}
		return e
	}
	named := func(name string) func(*Event) { return func(e *Event) { e.SetName(name) } }
	openat, _ := ParseOperation(CategorySyscall, "openat")
	return []Event{
		of(CategorySyscall, openat, -2, nil),
		of(CategorySyscall, 511, 0, func(e *Event) { e.Duration, e.Flags = 0, FlagNoDuration }),
		connect(),
		of(CategoryNetwork, NetworkSend, 100, func(e *Event) {
			e.Bytes, e.Flags = 100, FlagBytesPartial
			*e.Network() = Network{Family: familyIPv6, Protocol: protocolUDP, LocalPort: 53, LocalAddress: [16]byte{15: 1}, RemoteAddress: [16]byte{0x20, 1, 0xd, 0xb8, 15: 9}}
		}),
		of(CategoryNetwork, NetworkClose, 0, func(e *Event) { e.Process = Process{} }),
		of(CategoryNetwork, NetworkConnect, 0, func(e *Event) { e.Network().Family = familyUnix }),
		of(CategoryNetwork, NetworkReceive, 36, func(e *Event) { e.Bytes = 36; e.Network().Family, e.Network().Protocol = 16, 15 }),
		of(CategoryFilesystem, FilesystemOpen, 3, named("/etc/hosts")),
		of(CategoryFilesystem, FilesystemWrite, 4096, func(e *Event) { e.Bytes = 4096; e.SetName("data.db") }),
		of(CategoryFilesystem, FilesystemUnlink, -13, named("cut-\xff\xfe-here")),
		of(CategoryProcess, ProcessFork, 0, func(e *Event) { e.Lifecycle().ChildTGID = 1002 }),
		of(CategoryProcess, ProcessExec, 0, named("/usr/bin/curl")),
		of(CategoryProcess, ProcessExit, 137, func(e *Event) { e.Lifecycle().Signal = 9 }),
		of(CategoryProcess, ProcessExit, 0, nil),
	}
}

func enrichedExamples() []Enriched {
	context := Context{ParentTGID: 999, Known: 63, Cut: KnownExecutable}
	SetText(context.Executable[:], "curl")
	SetText(context.Parent[:], "bash")
	SetText(context.Ancestor[:], "systemd")
	SetText(context.User[:], "www-data")
	for i := range context.ContainerID {
		context.ContainerID[i] = byte(i)
	}
	copy(context.PodUID[:], context.ContainerID[16:])
	return []Enriched{
		{Event: connect(), Context: context},
		{Event: connect(), Context: Context{Reason: MissingNotFound}},
	}
}

func TestGolden(t *testing.T) {
	if runtime.GOOS != "linux" || runtime.GOARCH != "amd64" {
		t.Skip("the file has the names of linux/amd64")
	}
	for name, batch := range map[string]Batch{
		"records.yaml":          {Size: Size, Data: Bytes(examples())},
		"records_enriched.yaml": {Size: EnrichedSize, Data: Bytes(enrichedExamples())},
	} {
		t.Run(name, func(t *testing.T) {
			got := Encode(EncodingRecords, batch, Clock{offset: 1_700_000_000_000_000_000})
			for _, record := range got.ResourceLogs().At(0).ScopeLogs().At(0).LogRecords().All() {
				assert.NotZero(t, record.ObservedTimestamp())
				record.SetObservedTimestamp(0)
			}
			path := filepath.Join("testdata", name)
			if *update {
				require.NoError(t, golden.WriteLogsToFile(path, got))
			}
			want, err := golden.ReadLogs(path)
			require.NoError(t, err)
			require.NoError(t, plogtest.CompareLogs(want, got))
		})
	}
}

func TestRecordsRoundTrip(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for range 2000 {
		events := []Event{randomEvent(r), randomEvent(r)}
		batch := Batch{Size: Size, Data: Bytes(events)}
		batches, refused := decodeAll(t, Encode(EncodingRecords, batch, Clock{offset: 5}))
		require.Empty(t, refused)
		require.Equal(t, []Batch{batch}, batches, "%+v", events)

		enriched := []Enriched{{Event: events[0], Context: randomContext(r)}, {Event: events[1], Context: randomContext(r)}}
		batch = Batch{Size: EnrichedSize, Data: Bytes(enriched)}
		batches, refused = decodeAll(t, Encode(EncodingRecords, batch, Clock{}))
		require.Empty(t, refused)
		require.Equal(t, []Batch{batch}, batches, "%+v", enriched)
	}
}

func TestDurationRoundTrip(t *testing.T) {
	for _, duration := range []uint64{1, 999, 1_000_000_001, 1<<53 - 1, 1<<53 + 1, MaxDuration} {
		e := connect()
		e.Duration = duration
		batches, refused := decodeAll(t, Encode(EncodingRecords, Batch{Size: Size, Data: Bytes([]Event{e})}, Clock{}))
		require.Empty(t, refused)
		assert.Equal(t, duration, batches[0].At(0).Duration)
	}
	record := onlyRecord(Encode(EncodingRecords, Batch{Size: Size, Data: Bytes([]Event{connect()})}, Clock{}))
	_, exact := record.Attributes().Get(attributeDurationNs)
	assert.False(t, exact, "a usual duration needs no second attribute")
}

// hostileNames are what a program may call itself, a file or a user, in groups that a careless encoding makes one.
func hostileNames() []string {
	return []string{
		"a?", "a\xff", "a\xfe", "a\xc3", "a\xe4\xb8", "a\ufffd", // cut, or no UTF-8 at all
		"a\n", `a\n`, `a\\n`, `a\x0a`, "a\r", "a\t", "a\x7f", "a ", "a",
		"\x1b[31mred", "[31mred", "\x1b]0;title\a", "\u009b31mred", "\u0085", "\xc2\x85x", `\xc2\x85`,
		"txt\u202egpj", "txtgpj", "\u2066a\u2069", "a\u200b", "\ufeffa", "a\u2028", "a\u00a0", "\U000e0041", "\ue000",
		"\xed\xa0\x80", "\xc0\x80", "\xf4\x90\x80\x80", `\`, `\\`, `C:\x`, "sch\u00f6n", "\u732b", "\U0001f600",
	}
}

// TestNames: what the kernel calls a name need not be text. What leaves is text that a terminal shows as it is, that of
// different names differs, and the way back gives the name again.
func TestNames(t *testing.T) {
	names := map[string]string{} // by what they become
	for _, name := range hostileNames() {
		e := connect()
		e.Category, e.Operation = CategoryFilesystem, FilesystemOpen
		e.SetName(name)
		SetText(e.Process.Comm[:], name)
		context := Context{Known: 15}
		for _, room := range [][]byte{context.Executable[:], context.Parent[:], context.Ancestor[:], context.User[:]} {
			SetText(room, name)
		}
		batch := Batch{Size: EnrichedSize, Data: Bytes([]Enriched{{Event: e, Context: context}})}
		logs := Encode(EncodingRecords, batch, Clock{})
		path, _ := onlyRecord(logs).Attributes().Get(attributeFilePath)
		assert.NotContains(t, names, path.Str(), "%q is also %q", path.Str(), name)
		names[path.Str()] = name
		for _, value := range onlyRecord(logs).Attributes().All() {
			if value.Type() == pcommon.ValueTypeStr {
				assert.True(t, utf8.ValidString(value.Str()), "%q", value.Str())
				assert.False(t, strings.ContainsFunc(value.Str(), func(r rune) bool { return !unicode.IsPrint(r) }), "%q", value.Str())
			}
		}
		batches, refused := decodeAll(t, logs)
		require.Empty(t, refused)
		assert.Equal(t, []Batch{batch}, batches, "%q", name)
	}
}

func TestBadRecords(t *testing.T) {
	for _, test := range []struct {
		name   string
		change func(plog.LogRecord)
		detail string
	}{
		{"category", func(r plog.LogRecord) { r.SetEventName("kernel.disk.read") }, `unknown category "disk"`},
		{"operation", func(r plog.LogRecord) { r.SetEventName("kernel.network.conect") }, `category network has no operation "conect"`},
		{"no operation", func(r plog.LogRecord) { r.SetEventName("kernel.network") }, `no operation ""`},
		{"no time", func(r plog.LogRecord) { r.Attributes().Remove(attributeBootTime) }, "kernel.event.boot_time_ns is missing"},
		{"time", func(r plog.LogRecord) { r.Attributes().PutDouble(attributeBootTime, 1) }, "is a Double, expected a Int"},
		{"pid", func(r plog.LogRecord) { r.Attributes().PutInt(attributePID, -1) }, "process.pid: -1 is not between 0 and 4294967295"},
		{"pid type", func(r plog.LogRecord) { r.Attributes().PutStr(attributePID, "1") }, "process.pid: the value is a Str"},
		{"flags", func(r plog.LogRecord) { r.Attributes().PutInt(attributeFlags, 256) }, "256 is not between 0 and 255"},
		{"priority", func(r plog.LogRecord) { r.Attributes().PutStr(attributePriority, "urgent") }, `"urgent" is unknown`},
		{"duration type", func(r plog.LogRecord) { r.Attributes().PutInt(attributeDuration, 1) }, "expected a Double"},
		{"duration", func(r plog.LogRecord) { r.Attributes().PutDouble(attributeDuration, -1) }, "-1 s is no duration"},
		{"long duration", func(r plog.LogRecord) { r.Attributes().PutDouble(attributeDuration, 1e11) }, "is no duration"},
		{"no number", func(r plog.LogRecord) { r.Attributes().PutDouble(attributeDuration, math.NaN()) }, "NaN s is no duration"},
		{"command", func(r plog.LogRecord) { r.Attributes().PutStr(attributeThreadName, "0123456789abcdefg") }, "more than 16 bytes"},
		{"NUL", func(r plog.LogRecord) { r.Attributes().PutStr(attributeThreadName, "a\x00b") }, "a NUL"},
		{"NUL in a name", func(r plog.LogRecord) {
			r.SetEventName("kernel.process.exec")
			r.Attributes().PutStr(attributeExecutablePath, strings.Repeat("x", 2*NameLen)+"\x00")
		}, "a NUL"},
		{"name type", func(r plog.LogRecord) { r.Attributes().PutInt(attributeThreadName, 1) }, "expected a Str"},
		{"user", func(r plog.LogRecord) { r.Attributes().PutStr(attributeUserID, "root") }, `"root" is no user ID`},
		{"user type", func(r plog.LogRecord) { r.Attributes().PutInt(attributeUserID, 0) }, "expected a Str"},
		{"container", func(r plog.LogRecord) { r.Attributes().PutStr(attributeContainerID, "abc") }, "64 hexadecimal digits"},
		{"container type", func(r plog.LogRecord) { r.Attributes().PutInt(attributeContainerID, 1) }, "expected a Str"},
		{"pod", func(r plog.LogRecord) { r.Attributes().PutStr(attributePodUID, "static-pod") }, "32 hexadecimal digits"},
		{"transport", func(r plog.LogRecord) { r.Attributes().PutStr(attributeNetworkTransport, "quic") }, "none of tcp, udp and unix"},
		{"type", func(r plog.LogRecord) { r.Attributes().PutStr(attributeNetworkType, "ipx") }, "neither ipv4 nor ipv6"},
		{"address", func(r plog.LogRecord) { r.Attributes().PutStr(attributePeerAddress, "example.com") }, "is no IP address"},
		{"zone", func(r plog.LogRecord) { r.Attributes().PutStr(attributePeerAddress, "fe80::1%eth0") }, "is no IP address"},
		{"address type", func(r plog.LogRecord) { r.Attributes().PutInt(attributePeerAddress, 1) }, "expected a Str"},
		{"port", func(r plog.LogRecord) { r.Attributes().PutInt(attributePeerPort, 65536) }, "not between 0 and 65535"},
	} {
		t.Run(test.name, func(t *testing.T) {
			batch := Batch{Size: Size, Data: Bytes([]Event{connect()})}
			logs := Encode(EncodingRecords, batch, Clock{})
			test.change(onlyRecord(logs))
			Encode(EncodingRecords, batch, Clock{}).ResourceLogs().MoveAndAppendTo(logs.ResourceLogs())
			batches, refused := decodeAll(t, logs)
			assert.Equal(t, []Batch{batch}, batches, "a bad record does not affect the next")
			require.Len(t, refused, 1)
			assert.ErrorContains(t, refused[0], test.detail)
		})
	}
}

// TestLongNames: of an executable enrichment puts the whole path into a record, which an event has no room for.
func TestLongNames(t *testing.T) {
	exec, open := examples()[11], examples()[7]
	long, full := strings.Repeat("/long", 51), strings.Repeat("x", NameLen)
	for _, test := range []struct {
		name  string
		event Event
		key   string
		text  string
		want  string
		cut   Flags
	}{
		{"path", exec, attributeExecutablePath, long, long[:NameLen-1], FlagNameCut},
		{"file", open, attributeFilePath, long, long[:NameLen-1], FlagNameCut},
		{"one byte too many", exec, attributeExecutablePath, full + "x", full[1:], FlagNameCut},
		{"in the middle of a character", exec, attributeExecutablePath, full[2:] + "\u20ac", full[2:] + "\xe2", FlagNameCut},
		{"all of the room", exec, attributeExecutablePath, full, full, 0},
	} {
		t.Run(test.name, func(t *testing.T) {
			for _, flags := range []Flags{0, FlagNoDuration} {
				for _, before := range []bool{false, true} {
					e := test.event
					e.Flags = flags
					logs := Encode(EncodingRecords, Batch{Size: Size, Data: Bytes([]Event{e})}, Clock{})
					attributes := onlyRecord(logs).Attributes()
					attributes.PutStr(test.key, test.text)
					if before {
						attributes.Remove(attributeFlags)
						attributes.PutInt(attributeFlags, int64(flags))
					}
					e.Flags |= test.cut
					clear(e.Payload[copy(e.Payload[:], test.want):])
					batches, refused := decodeAll(t, logs)
					require.Empty(t, refused)
					assert.Equal(t, []Batch{{Size: Size, Data: Bytes([]Event{e})}}, batches)
				}
			}
		})
	}
}

// TestOthersAttributes: a processor between our components may add to a record.
func TestOthersAttributes(t *testing.T) {
	batch := Batch{Size: Size, Data: Bytes([]Event{connect()})}
	logs := Encode(EncodingRecords, batch, Clock{})
	onlyRecord(logs).Attributes().PutStr("host.name", "here")
	onlyRecord(logs).Attributes().PutStr(attributeFileName, "not of a network event")
	onlyRecord(logs).SetTimestamp(0)
	batches, refused := decodeAll(t, logs)
	assert.Empty(t, refused)
	assert.Equal(t, []Batch{batch}, batches)
}

// FuzzEncodeRecords: any bytes that pass for an event have valid records, and these one event.
func FuzzEncodeRecords(f *testing.F) {
	for _, e := range examples() {
		f.Add(Bytes([]Enriched{{Event: e}}))
	}
	f.Add(Bytes(enrichedExamples())[:EnrichedSize])
	f.Fuzz(func(t *testing.T, data []byte) {
		if len(data) < EnrichedSize {
			return
		}
		for _, size := range []int{Size, EnrichedSize} {
			batch := Batch{Size: size, Data: append([]byte(nil), data[:size]...)}
			batch.At(0).Version = Version
			batch.At(0).Category = Categories()[batch.At(0).Category%4]
			batch.At(0).Bytes &= MaxBytes
			batch.At(0).Duration &= MaxDuration
			batch.At(0).Time &= MaxTime
			logs := Encode(EncodingRecords, batch, Clock{})
			for key, value := range onlyRecord(logs).Attributes().All() {
				if value.Type() == pcommon.ValueTypeStr {
					assert.True(t, utf8.ValidString(value.Str()), key)
					assert.False(t, strings.ContainsFunc(value.Str(), func(r rune) bool { return !unicode.IsPrint(r) }), "%s: %q", key, value.Str())
				}
			}
			once, refused := decodeAll(t, logs)
			require.Empty(t, refused)
			require.Len(t, once, 1)
			require.Equal(t, size, once[0].Size)
			require.Equal(t, batch.At(0).Comm(), once[0].At(0).Comm())
			if batch.At(0).HasName() {
				require.Equal(t, batch.At(0).Name(), once[0].At(0).Name())
			}
			twice, refused := decodeAll(t, Encode(EncodingRecords, once[0], Clock{}))
			require.Empty(t, refused)
			require.Equal(t, once, twice)
		}
	})
}

// FuzzDecodeRecords: any logs at all; what is taken for events must be valid and survive the way back.
func FuzzDecodeRecords(f *testing.F) {
	var marshaler plog.ProtoMarshaler
	// Few events in each, or the fuzzer spends its time on making its inputs smaller.
	var batches []Batch
	for _, e := range examples() {
		batches = append(batches, Batch{Size: Size, Data: Bytes([]Event{e})})
	}
	for _, e := range enrichedExamples() {
		batches = append(batches, Batch{Size: EnrichedSize, Data: Bytes([]Enriched{e})})
	}
	for _, batch := range batches {
		for _, encoding := range []Encoding{EncodingRecords, EncodingFrames} {
			data, err := marshaler.MarshalLogs(Encode(encoding, batch, Clock{}))
			require.NoError(f, err)
			f.Add(data)
		}
	}
	long := Encode(EncodingRecords, Batch{Size: Size, Data: Bytes(examples()[11:12])}, Clock{})
	onlyRecord(long).Attributes().PutStr(attributeExecutablePath, strings.Repeat("/\u20ac", 30))
	data, err := marshaler.MarshalLogs(long)
	require.NoError(f, err)
	f.Add(data)
	f.Fuzz(func(t *testing.T, data []byte) {
		var unmarshaler plog.ProtoUnmarshaler
		logs, err := unmarshaler.UnmarshalLogs(data)
		if err != nil {
			return
		}
		records := logs.LogRecordCount()
		batches, refused := decodeAll(t, logs)
		assert.LessOrEqual(t, len(refused), records)
		for _, batch := range batches {
			for i := range batch.Len() {
				require.NoError(t, batch.At(i).Validate())
			}
			again, refused := decodeAll(t, Encode(EncodingRecords, batch, Clock{}))
			require.Empty(t, refused)
			require.Len(t, again, 1)
			require.Equal(t, batch.Len(), again[0].Len())
		}
	})
}

// What is not known of an address is left out: it is not 0.0.0.0, and no port 0.
func TestRecordOfUnknownAddresses(t *testing.T) {
	for name, test := range map[string]struct {
		network Network
		want    map[string]any
	}{
		"nothing, IPv4": {Network{Family: familyIPv4}, map[string]any{}},
		"nothing, IPv6": {Network{Family: familyIPv6}, map[string]any{}},
		"peer only": {
			Network{Family: familyIPv4, RemotePort: 80, RemoteAddress: [16]byte{192, 0, 2, 1}},
			map[string]any{attributePeerAddress: "192.0.2.1", attributePeerPort: int64(80)},
		},
		"local port only":                    {Network{Family: familyIPv6, LocalPort: 53}, map[string]any{attributeLocalPort: int64(53)}},
		"an IPv4 address ends after 4 bytes": {Network{Family: familyIPv4, RemoteAddress: [16]byte{15: 1}}, map[string]any{}},
	} {
		t.Run(name, func(t *testing.T) {
			e := connect()
			*e.Network() = test.network
			attributes := Encode(EncodingRecords, Batch{Size: Size, Data: Bytes([]Event{e})}, Clock{}).
				ResourceLogs().At(0).ScopeLogs().At(0).LogRecords().At(0).Attributes().AsRaw()
			got := map[string]any{}
			for _, key := range []string{attributeLocalAddress, attributeLocalPort, attributePeerAddress, attributePeerPort} {
				if value, ok := attributes[key]; ok {
					got[key] = value
				}
			}
			assert.Equal(t, test.want, got)
		})
	}
}
