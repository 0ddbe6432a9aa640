package nginxconf

import (
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// String is the canonical way to write the endpoint: it parses to the same
// endpoint.
func (e endpoint) String() string {
	if e.unix {
		return "unix:"
	}
	s := e.host
	if e.addr.IsValid() {
		s = e.addr.String()
	}
	if e.addr.Is6() {
		s = "[" + s + "]"
	}
	switch {
	case e.first == 0:
		return s
	case e.first == e.last:
		return fmt.Sprintf("%s:%d", s, e.first)
	}
	return fmt.Sprintf("%s:%d-%d", s, e.first, e.last)
}

// What parseEndpoint makes of each form of ngx_parse_url, in its canonical
// writing; "" is an error.
func TestParseEndpoint(t *testing.T) {
	for text, want := range map[string]string{
		"80":                 "0.0.0.0:80",
		"0080":               "0.0.0.0:80",
		"8000-8005":          "0.0.0.0:8000-8005",
		"*":                  "0.0.0.0",
		"*:80":               "0.0.0.0:80",
		"10.0.0.1":           "10.0.0.1",
		"10.0.0.1:7-7":       "10.0.0.1:7",
		"010.001.1.2:80":     "10.1.1.2:80", // decimal, unlike inet_aton(3)
		"10..0.1:80":         "10.0.0.1:80",
		"127.1":              "127.0.0.1",
		"010.1":              "8.0.0.1", // octal, as inet_aton(3)
		"0x7f000001:80":      "127.0.0.1:80",
		"2130706433":         "", // a port first
		"2130706433:80":      "127.0.0.1:80",
		"256.0.0.1:80":       "256.0.0.1:80", // a host name
		"LocalHost:80":       "localhost:80",
		"10.1.1.1-8003":      "10.1.1.1-8003", // a host name
		"[::]:80":            "[::]:80",
		"[2001:db8::1]":      "[2001:db8::1]",
		"[2001:db8::1]:1-2":  "[2001:db8::1]:1-2",
		"[fe80::1%eth0]:80":  "",
		"[10.0.0.1]:80":      "",
		"[]:80":              "",
		"[::1":               "",
		"[::1]80":            "",
		"2001:db8::1":        "",
		":80":                "",
		"10.0.0.1:":          "",
		"10.0.0.1:0":         "",
		"10.0.0.1:65536":     "",
		"10.0.0.1:8005-8000": "",
		"10.0.0.1:http":      "",
		"0":                  "",
		"":                   "",
		"unix:/run/x":        "unix:",
		"UNIX:@abstract":     "unix:",
	} {
		e, err := parseEndpoint(text)
		got := e.String()
		if err != nil {
			got = ""
		}
		if got != want {
			t.Errorf("%q: got %q (%v), want %q", text, got, err, want)
		}
	}
}

// The patterns of fnmatch(3) with the names that they take out of the same few.
func TestFnmatch(t *testing.T) {
	names := []string{"a", "ab", "b1", "a.conf", "a]", "-", "[x", "*"}
	for pattern, want := range map[string][]string{
		"*":                names,
		"a*":               {"a", "ab", "a.conf", "a]"},
		"*.conf":           {"a.conf"},
		"*a*b*":            {"ab"},
		"?":                {"a", "-", "*"},
		"[!a]*":            {"b1", "-", "[x", "*"},
		"[^a]*":            {"b1", "-", "[x", "*"},
		"[a-b][[:digit:]]": {"b1"},
		"a[]]":             {"a]"},
		"[a-]":             {"a", "-"},
		"[x":               {"[x"},
		`\*`:               {"*"},
		"":                 nil,
	} {
		var got []string
		for _, name := range names {
			if fnmatch(pattern)(name) {
				got = append(got, name)
			}
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%q: -want +got\n%s", pattern, diff)
		}
	}
}
