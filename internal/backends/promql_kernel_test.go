//go:build linux && kernel

package backends

import (
	"encoding/json"
	"fmt"
	"math"
	"net/http"
	"net/url"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// api is where a backend answers queries in PromQL.
type api string

// series is a series in an answer: samples by their time in ms.
type series struct {
	labels  map[string]string
	samples map[int64]float64
}

// query asks for the values of an expression now; a range selector brings all samples in the range.
func (a api) query(t testing.TB, expression string) []series {
	t.Helper()
	now := strconv.FormatFloat(float64(time.Now().UnixMilli())/1000, 'f', 3, 64)
	response, err := http.Get(string(a) + "/api/v1/query?" + url.Values{"query": {expression}, "time": {now}}.Encode())
	require.NoError(t, err)
	defer func() { assert.NoError(t, response.Body.Close()) }()
	var answer struct {
		Status string
		Error  string
		Data   struct {
			Result []struct {
				Metric map[string]string
				Value  sample
				Values []sample
			}
		}
	}
	require.NoError(t, json.NewDecoder(response.Body).Decode(&answer), expression)
	require.Equal(t, "success", answer.Status, "%s: %s", expression, answer.Error)
	found := make([]series, len(answer.Data.Result))
	for i, result := range answer.Data.Result {
		found[i] = series{labels: result.Metric, samples: map[int64]float64{}}
		for _, s := range append(result.Values, result.Value) {
			if s.time != 0 {
				found[i].samples[s.time] = s.value
			}
		}
	}
	return found
}

// sample is a pair of a time in s and a value in quotes.
type sample struct {
	time  int64 // ms
	value float64
}

// UnmarshalJSON implements json.Unmarshaler.
func (s *sample) UnmarshalJSON(text []byte) (err error) {
	var seconds float64
	var value string
	if err := json.Unmarshal(text, &[]any{&seconds, &value}); err != nil {
		return err
	}
	s.time = int64(math.Round(seconds * 1000))
	s.value, err = strconv.ParseFloat(value, 64)
	return err
}

// value returns the value of an expression that has one series; NaN where it has none yet.
func (a api) value(t testing.TB, expression string) float64 {
	t.Helper()
	found := a.query(t, expression)
	if len(found) == 0 {
		return math.NaN()
	}
	require.Len(t, found, 1, expression)
	for _, value := range found[0].samples {
		return value
	}
	return math.NaN()
}

// waitFor returns when an expression has the value.
func (a api) waitFor(t testing.TB, expression string, want float64) {
	t.Helper()
	a.waitBetween(t, expression, want, want)
}

// waitBetween returns when an expression has a value from least to most.
func (a api) waitBetween(t testing.TB, expression string, least, most float64) {
	t.Helper()
	var got float64
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); time.Sleep(100 * time.Millisecond) {
		if got = a.value(t, expression); least <= got && got <= most {
			return
		}
	}
	assert.Fail(t, fmt.Sprintf("%s is %v, expected %v to %v", expression, got, least, most))
}
