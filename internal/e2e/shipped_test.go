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

// TestShippedExportersHaveNoQueue: in each configuration that we ship or show, an OTLP exporter keeps nothing in memory for
// a backend that is down: what waits is in the kernel.
func TestShippedExportersHaveNoQueue(t *testing.T) {
	root := "../.."
	texts := map[string]string{}
	for _, pattern := range []string{"config.yaml", "examples/*.yaml", "examples/*/*.yaml", "*.md", "docs/*.md", "*/*/README.md"} {
		files, err := filepath.Glob(filepath.Join(root, pattern))
		require.NoError(t, err)
		for _, file := range files {
			content, err := os.ReadFile(file)
			require.NoError(t, err)
			if !strings.HasSuffix(file, ".md") {
				texts[file] = string(content)
				continue
			}
			for _, block := range regexp.MustCompile("(?s)```yaml\n(.*?)```").FindAllStringSubmatch(string(content), -1) {
				texts[file+": "+block[1][:min(40, len(block[1]))]] = block[1]
			}
		}
	}
	checked := 0
	for name, text := range texts {
		retrieved, err := confmap.NewRetrievedFromYAML([]byte(text))
		require.NoError(t, err, name)
		conf, err := retrieved.AsConf()
		if err != nil { // a part of a configuration
			continue
		}
		exporters, ok := conf.Get("exporters").(map[string]any)
		if !ok {
			continue
		}
		for id, config := range exporters {
			if !strings.HasPrefix(id, "otlp") {
				continue
			}
			checked++
			settings, _ := config.(map[string]any)
			queue, _ := settings["sending_queue"].(map[string]any)
			assert.Equal(t, false, queue["enabled"], "%s: %s", name, id)
		}
	}
	assert.GreaterOrEqual(t, checked, 6)
}
