package bpfenrichprocessor

import (
	"reflect"
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/kernelpipe/kernelpipe/bpf"
)

// Each count of the table is a loss that is logged and judged, or is known to be none.
func TestEachCountOfTheTableIsJudged(t *testing.T) {
	harmless := map[string]bool{
		"Started": true, "Found": true, "Put": true, // what is in the table
		"Evicted": true, "LeftOut": true, "Kept": true, // what made room; enrich_incomplete says what an event lacks
	}
	var counts bpf.TableCounts
	rows := 0
	var visit func(string, reflect.Value)
	visit = func(name string, of reflect.Value) {
		for i := range of.NumField() {
			field, name := of.Field(i), name+of.Type().Field(i).Name
			if field.Kind() == reflect.Struct {
				visit(name+".", field)
				continue
			}
			if harmless[of.Type().Field(i).Name] {
				continue
			}
			field.SetUint(7)
			read := 0
			for _, loss := range tableLosses {
				if loss.of(&counts) == 7 {
					read++
				}
			}
			field.SetUint(0)
			assert.Equal(t, 1, read, "rows that read %s", name)
			rows += read
		}
	}
	visit("", reflect.ValueOf(&counts).Elem())
	assert.Len(t, tableLosses, rows)
}
