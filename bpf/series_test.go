//go:build linux

package bpf

import (
	"os"
	"reflect"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/cilium/ebpf/btf"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// TestStatsLayout holds the Go structs of the stats map against the C structs in the committed object: the same
// fields in the same places. Go names them without the unit and the underscores.
func TestStatsLayout(t *testing.T) {
	spec, err := loadStats()
	require.NoError(t, err)
	for name, value := range map[string]any{
		"kp_series_id": SeriesID{}, "kp_series": Series{}, "kp_totals": Totals{}, "kp_entry": Entry{}, "kp_delta": Delta{}, "kp_bucket_delta": BucketDelta{}, "kp_view": kernelView{}, "kp_source": kernelSource{},
	} {
		var layout *btf.Struct
		require.NoError(t, spec.Types.TypeByName(name, &layout))
		goType := reflect.TypeOf(value)
		require.Equal(t, goType.NumField(), len(layout.Members), name)
		for i, member := range layout.Members {
			field := goType.Field(i)
			size, err := btf.Sizeof(member.Type)
			require.NoError(t, err)
			want := strings.NewReplacer("_unix_ns", "", "_ns", "", "_", "").Replace(member.Name)
			assert.Equal(t, want, strings.ToLower(field.Name), name)
			assert.EqualValues(t, field.Offset, member.Offset.Bytes(), "%s.%s", name, member.Name)
			assert.EqualValues(t, field.Type.Size(), size, "%s.%s", name, member.Name)
		}
	}
}

// TestStatsConstants holds the Go constants against those of stats.h; each of them must be in the list.
func TestStatsConstants(t *testing.T) {
	header, err := os.ReadFile("c/stats.h")
	require.NoError(t, err)
	got := map[string]int{}
	for _, constant := range regexp.MustCompile(`(?m)^(?:#define|\t)\s*(KP_\w+)\s*=?\s*\(?(-?\d+)`).FindAllStringSubmatch(string(header), -1) {
		got[constant[1]], err = strconv.Atoi(constant[2])
		require.NoError(t, err)
	}
	assert.Equal(t, map[string]int{
		"KP_STATS_FORMAT": statsFormat, "KP_DELTAS": MaxDeltas, "KP_DELTA_BUCKETS": MaxDeltaBuckets, "KP_VIEWS": MaxViews,
		"KP_SCALE": BucketScale, "KP_BUCKET_OFFSET": BucketOffset, "KP_BUCKETS": Buckets, "KP_DESCRIPTION": MaxDescription + 8,
		"KP_SERIES_OVERFLOW": int(SeriesOverflow), "KP_SERIES_PROCESS": int(SeriesProcess), "KP_SERIES_EXIT": int(SeriesExit),
		"KP_DELTA_NEW": int(DeltaNew), "KP_DELTA_KNOWN": int(DeltaKnown), "KP_DELTA_LOST": int(DeltaLost),
		"KP_SERIES_FILE_NAME": int(SeriesFileName), "KP_SERIES_FILE_PATH": int(SeriesFilePath), "KP_SERIES_EXECUTABLE_PATH": int(SeriesExecutablePath),
	}, got)
}
