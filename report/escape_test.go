package report

import "testing"

func TestEscape(t *testing.T) {
	for _, tt := range []struct{ in, name, text string }{
		{"", "", ""},
		{"www.example.org", "www.example.org", "www.example.org"},
		{"bücher 書", "bücher 書", "bücher 書"},
		{"a\x1b[31mred", `a\x1b[31mred`, `a\x1b[31mred`},
		{"two\nlines\r\t", `two\nlines\r\t`, "two\nlines\\r\\t"},
		{"\x9b31m", `\x9b31m`, `\x9b31m`},
		{"c1 \u009b31m", `c1 \u009b31m`, `c1 \u009b31m`},
		{"abc\u202edcba\u2066", `abc\u202edcba\u2066`, `abc\u202edcba\u2066`},
		{"zero\u200bwidth\ufeff", `zero\u200bwidth\ufeff`, `zero\u200bwidth\ufeff`},
		{"line\u2028separator", `line\u2028separator`, `line\u2028separator`},
		{`back\slash`, `back\\slash`, `back\slash`},
		{"broken \xff\xc3", `broken \xff\xc3`, `broken \xff\xc3`},
		{"replacement \uFFFD", "replacement \uFFFD", "replacement \uFFFD"},
		{"tag \U000e0041", `tag \U000e0041`, `tag \U000e0041`},
	} {
		if got := Escape(tt.in); got != tt.name {
			t.Errorf("Escape(%q) = %q, want %q", tt.in, got, tt.name)
		}
		if got := EscapeText(tt.in); got != tt.text {
			t.Errorf("EscapeText(%q) = %q, want %q", tt.in, got, tt.text)
		}
	}
}
