package bpfenrichprocessor

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.uber.org/zap"
)

// A program that the table has forgotten stays forgotten: the table, here none, is not asked about it again.
func TestAForgottenProgramIsAskedForOnce(t *testing.T) {
	d := newDetails(createDefaultConfig().(*Config), zap.NewNop(), nil)
	forgotten, _ := d.cache.Add(identity{1000, 100, 2})
	forgotten.forgotten = true
	record := pcommon.NewMap()
	record.PutInt(attributeProcessStart, 1000)
	record.PutInt(attributePID, 100)
	record.PutInt(attributeExecNumber, 2)
	d.add(record)
	missing, _ := record.Get(attributeMissing)
	assert.Equal(t, "evicted", missing.Str())
}
