package message

import (
	"encoding/json"
	"testing"
	"time"

	"pgregory.net/rapid"

	"sorrel/shared/record"
)

func drawAny(t *rapid.T, depth int) any {
	kind := rapid.IntRange(0, 8).Draw(t, "kind")
	if depth > 3 {
		kind %= 6
	}
	switch kind {
	case 0:
		return nil
	case 1:
		return rapid.SampledFrom([]string{"", "plain", `<b>&"c"\`, "Châlons\u2028", "\x00\x7f", "\xff"}).Draw(t, "text")
	case 2:
		return rapid.String().Draw(t, "any text")
	case 3:
		return rapid.Bool().Draw(t, "bool")
	case 4:
		return json.Number(rapid.SampledFrom([]string{"0", "-1", "14.00", "-0.5", "1e5", "1E-7", "", "-", "01", "1.", ".5", "--1", "1.2.3"}).Draw(t, "number"))
	case 5:
		return rapid.SampledFrom([]any{1, 2.5, []string{"a"}, map[string]any(nil), []any(nil)}).Draw(t, "Go value")
	case 6, 7:
		m := map[string]any{}
		for range rapid.IntRange(0, 3).Draw(t, "members") {
			m[rapid.SampledFrom([]string{"a", "b<", "ü", "zz"}).Draw(t, "key")] = drawAny(t, depth+1)
		}
		return m
	}
	list := []any{}
	for range rapid.IntRange(0, 3).Draw(t, "items") {
		list = append(list, drawAny(t, depth+1))
	}
	return list
}

func drawTime(t *rapid.T) time.Time {
	at := time.Unix(rapid.Int64Range(-1<<33, 1<<38).Draw(t, "second"), rapid.Int64Range(0, 999999999).Draw(t, "nano"))
	switch rapid.IntRange(0, 3).Draw(t, "zone") {
	case 0:
		return at.In(time.FixedZone("", 5400))
	case 1:
		return time.Time{}
	}
	return at.UTC()
}

// The encoder written by hand must give byte for byte what encoding/json gives, and fail where that fails.
func TestEncodeIsJSON(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		text := rapid.SampledFrom([]string{"", "x", "<é>"})
		in := Inbound{V: version, CorrelationID: text.Draw(t, "id"), ReceivedAt: drawTime(t), Source: Source(text.Draw(t, "source")),
			Native: record.Native{Ref: record.Ref{Platform: text.Draw(t, "p"), Object: text.Draw(t, "o"), ID: text.Draw(t, "i")},
				Version: record.Version{At: drawTime(t), Final: rapid.Bool().Draw(t, "final"), Seq: rapid.Int64Range(-1, 2).Draw(t, "seq")},
				Partial: rapid.Bool().Draw(t, "partial"), Gone: rapid.Bool().Draw(t, "gone"), Born: drawTime(t), External: text.Draw(t, "external"),
				Into: text.Draw(t, "into"), Ours: rapid.Bool().Draw(t, "ours"), Actor: text.Draw(t, "actor")}}
		if m, ok := drawAny(t, 0).(map[string]any); ok {
			in.Native.Fields = m
		}
		want, wantErr := json.Marshal(in)
		got, err := appendInbound(nil, in)
		if (err == nil) != (wantErr == nil) || err == nil && string(got) != string(want) {
			t.Fatalf("got  %s (%v)\nwant %s (%v)", got, err, want, wantErr)
		}
	})
}

func BenchmarkInboundMessage(b *testing.B) {
	fields := map[string]any{}
	if err := json.Unmarshal([]byte(`{"tranId":"SO-1","entity":{"id":"501"},"total":"843.96","memo":"order 1 revision 1.","shippingAddress":{"addr1":"Obere Str. 57","addr2":null,"city":"Berlin"},
		"item":{"items":[{"line":"1","item":{"id":"28","refName":"Rössle Sauerkraut"},"quantity":"15","rate":"45.6"},{"line":"2","item":{"id":"39","refName":"Chartreuse verte"},"quantity":"10","rate":"13.05"}]}}`), &fields); err != nil {
		b.Fatal(err)
	}
	in := Inbound{CorrelationID: "01JC", ReceivedAt: time.Unix(1793000000, 5).UTC(), Source: Webhook, Native: record.Native{
		Ref: record.Ref{Platform: "netsuite", Object: "salesOrder", ID: "100001"}, Version: record.Version{At: time.Unix(1793000000, 0).UTC(), Seq: 4}, Fields: fields}}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := in.Message("e-1"); err != nil {
			b.Fatal(err)
		}
	}
}
