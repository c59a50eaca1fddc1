package e2e

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/confmap"
)

// losses is how metrics end that count what was lost, or may be.
var losses = regexp.MustCompile(`_(damaged|dead_lettered|dropped|foreign|incomplete|invalid|lost|missed|overflowed|` +
	`pins_removed|refused|saturated|table_evictions|table_misses|uncertain|untimed)$`)

// TestEachLossIsInTheOperationsTable: docs/operations.md says of each metric of a loss what the log and the status say, and names
// no metric that there is not.
func TestEachLossIsInTheOperationsTable(t *testing.T) {
	text, err := os.ReadFile("../../docs/operations.md")
	require.NoError(t, err)
	_, section, found := strings.Cut(string(text), "### What the log and the status say\n")
	require.True(t, found)
	section, _, found = strings.Cut(section, "\n## ")
	require.True(t, found)
	named := map[string]bool{}
	for _, row := range regexp.MustCompile(`(?m)^\| ([^|]*) \|`).FindAllStringSubmatch(section, -1) {
		for _, name := range regexp.MustCompile("`([a-z_]+)").FindAllStringSubmatch(row[1], -1) {
			named[name[1]] = true
		}
	}
	files, err := filepath.Glob("../../*/*/metadata.yaml")
	require.NoError(t, err)
	metrics := map[string]bool{}
	for _, file := range files {
		content, err := os.ReadFile(file)
		require.NoError(t, err)
		retrieved, err := confmap.NewRetrievedFromYAML(content)
		require.NoError(t, err, file)
		metadata, err := retrieved.AsConf()
		require.NoError(t, err, file)
		declared, _ := metadata.Get("telemetry::metrics").(map[string]any)
		for name := range declared {
			name = strings.TrimPrefix(name, "kernelpipe_")
			metrics[name] = true
			if losses.MatchString(name) {
				assert.True(t, named[name], "%s of %s is not in the table", name, file)
			}
		}
		if causes, ok := metadata.Get("attributes::cause::enum").([]any); ok {
			for _, cause := range causes {
				assert.Contains(t, section, "`receiver_missed{cause=\""+cause.(string)+"\"}`")
			}
		}
	}
	assert.Greater(t, len(metrics), 60)
	for name := range named {
		assert.True(t, metrics[name], "there is no metric %s", name)
	}
}
