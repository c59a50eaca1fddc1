package event

import (
	"reflect"
	"testing"
	"unsafe"

	"github.com/stretchr/testify/assert"
	"go.opentelemetry.io/collector/pdata/pcommon"
)

func TestBodyInPlace(t *testing.T) {
	body := pcommon.NewByteSlice()
	assert.Empty(t, bodyOf(body))
	body.EnsureCapacity(100)
	body.Append(1, 2, 3)
	got := bodyOf(body)
	assert.Equal(t, []byte{1, 2, 3}, got)
	assert.Same(t, unsafe.SliceData(got), unsafe.SliceData(bodyOf(body)), "with this version of pdata it is no copy")
	_ = append(got, 4)
	body.Append(5)
	assert.Equal(t, []byte{1, 2, 3, 5}, body.AsRaw(), "an append does not reach the body")
}

func TestBeginsWithSlice(t *testing.T) {
	type state struct{}
	assert.True(t, beginsWithSlice(reflect.TypeFor[pcommon.ByteSlice]()), "this version of pdata")
	assert.False(t, beginsWithSlice(reflect.TypeFor[struct{}]()))
	assert.False(t, beginsWithSlice(reflect.TypeFor[[]byte]()))
	assert.False(t, beginsWithSlice(reflect.TypeFor[struct{ b []byte }]()))
	assert.False(t, beginsWithSlice(reflect.TypeFor[struct {
		s *state
		b *[]byte
	}]()))
}
