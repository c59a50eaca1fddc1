package bpfreceiver

import (
	"reflect"
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/kernelpipe/kernelpipe/bpf"
)

// Whatever the probes miss is counted, logged and judged: each field has a row that reads it, and no other.
func TestEachCauseHasARow(t *testing.T) {
	fields := reflect.TypeFor[bpf.Missed]()
	causes := map[string]bool{}
	for i := range fields.NumField() {
		var all bpf.Missed
		reflect.ValueOf(&all).Elem().Field(i).SetUint(7)
		for _, m := range missed {
			if m.of(&all) == 7 {
				assert.False(t, causes[m.cause], m.cause)
				causes[m.cause] = true
				assert.NotEmpty(t, m.Lost)
			}
		}
		assert.Len(t, causes, i+1, fields.Field(i).Name)
	}
	assert.Len(t, causes, len(missed))
}
