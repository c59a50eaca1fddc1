package bpfaggregateconnector

import (
	"fmt"
	"maps"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// TestDocumentation holds the tables of README.md against the code; with -update it writes them.
func TestDocumentation(t *testing.T) {
	const path = "README.md"
	before, err := os.ReadFile(path)
	require.NoError(t, err)
	text := string(before)
	for name, table := range map[string]string{"metrics": metricsTable(), "kinds": kindsTable(), "dimensions": dimensionsTable()} {
		section := regexp.MustCompile(`(?s)<!-- ` + name + ` -->\n.*?<!-- end -->`)
		require.Len(t, section.FindAllString(text, -1), 1, name)
		text = section.ReplaceAllLiteralString(text, "<!-- "+name+" -->\n"+table+"<!-- end -->")
	}
	if *update {
		require.NoError(t, os.WriteFile(path, []byte(text), 0o600))
		return
	}
	assert.Equal(t, text, string(before), "README.md is not up to date: run `go generate` here")
}

func metricsTable() string {
	table := "| metric | on | kind | unit | dimensions |\n|---|---|---|---|---|\n"
	metrics := defaultMetrics()
	for _, name := range slices.Sorted(maps.Keys(metrics)) {
		m := metrics[name]
		on := "yes"
		if !m.Enabled {
			on = "no"
		}
		table += fmt.Sprintf("| `%s` | %s | `%s` | `%s` | `%s` |\n", name, on, m.Kind, m.Kind.unit(), strings.Join(m.Dimensions, "`, `"))
	}
	return table
}

func kindsTable() string {
	table := "| kind | type | unit | |\n|---|---|---|---|\n"
	for _, kind := range kinds {
		shape := map[Kind]string{
			Events: "sum, monotonic", Bytes: "sum, monotonic", Duration: "exponential histogram, or histogram", Latency: "exponential histogram, or histogram",
			Rate: "gauge", Quantiles: "gauge",
		}[kind]
		table += fmt.Sprintf("| `%s` | %s | `%s` | %s |\n", kind, shape, kind.unit(), kind.description())
	}
	return table
}

func dimensionsTable() string {
	table := "| dimension | describes | |\n|---|---|---|\n"
	for _, d := range dimensions() {
		place := map[placement]string{ofPoint: "the point", ofResource: "the resource", ofProcess: "the resource, if that is a process"}[d.placement]
		table += fmt.Sprintf("| `%s` | %s | %s |\n", d.name, place, d.description)
	}
	return table
}
