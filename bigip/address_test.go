package bigip

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"go4.org/netipx"

	"lasthop/routing"
)

var byValue = cmpopts.EquateComparable(netipx.IPRange{}, netip.Addr{}, netip.Prefix{})

func TestParsePrefix(t *testing.T) {
	for _, tt := range []struct {
		text   string
		want   string
		domain int
	}{
		{"10.0.0.11/24", "10.0.0.11/24", noDomain},
		{"10.30.0.11%47/16", "10.30.0.11/16", 47},
		{"10.0.0.1", "10.0.0.1/32", noDomain},
		{"2001:db8::1/64", "2001:db8::1/64", noDomain},
		{"2001:db8::1%3/64", "2001:db8::1/64", 3},
		{"default", "0.0.0.0/0", noDomain},
		{"default%5", "0.0.0.0/0", 5},
		{"default-inet6", "::/0", noDomain},
		{"default-inet6%5", "::/0", 5},
		{"any", "0.0.0.0/0", noDomain},
		{"any6", "::/0", noDomain},
		{"0.0.0.0%47/0", "0.0.0.0/0", 47},
		{"10.0.0.0/255.0.0.0", "10.0.0.0/8", noDomain},
		{"0.0.0.0/128.0.0.0", "0.0.0.0/1", noDomain},
		{"10.0.0.0/0.0.0.0", "10.0.0.0/0", noDomain},
		{"2001:db8::/ffff:ffff::", "2001:db8::/32", noDomain},
		{"10.0.0.0/33", "", 0},
		{"10.0.0.0/255.0.0.255", "", 0},
		{"10.0.0.0/0.255.0.0", "", 0},
		{"10.0.0.0/ffff::", "", 0},
		{"10.0.0/8", "", 0},
		{"10.0.0.1%x/8", "", 0},
		{"10.0.0.1%/8", "", 0},
		{"10.0.0.1%65535", "", 0},
		{"fe80::1%eth0", "", 0},
		{"2000/16", "", 0},
		{"", "", 0},
	} {
		p, domain, ok := parsePrefix(tt.text)
		if ok != (tt.want != "") ||
			ok && (p != netip.MustParsePrefix(tt.want) || domain != tt.domain) {
			t.Errorf("%q is %v in domain %d (%v), want %q in %d", tt.text, p, domain,
				ok, tt.want, tt.domain)
		}
	}
}

func TestParseRange(t *testing.T) {
	for text, want := range map[string]string{
		"10.0.0.1":                "10.0.0.1-10.0.0.1",
		"10.0.0.0/30":             "10.0.0.0-10.0.0.3",
		"10.0.0.1-10.0.0.9":       "10.0.0.1-10.0.0.9",
		"10.0.0.1%5-10.0.0.9%5":   "10.0.0.1-10.0.0.9",
		"2001:db8::1-2001:db8::f": "2001:db8::1-2001:db8::f",
		"default-inet6":           "::-ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff",
		"10.0.0.9-10.0.0.1":       "",
		"10.0.0.9-2001:db8::1":    "",
		"10.0.0.1-":               "",
		"www.example.com":         "",
	} {
		r, _, ok := parseRange(text)
		if ok != (want != "") || ok && r.String() != want {
			t.Errorf("%q is %v (%v), want %q", text, r, ok, want)
		}
	}
}

func TestParsePort(t *testing.T) {
	type result struct {
		Ports   []routing.PortRange
		Service string
	}
	for text, want := range map[string]result{
		"":             {[]routing.PortRange{anyPort}, ""},
		"0":            {[]routing.PortRange{anyPort}, ""},
		"any":          {[]routing.PortRange{anyPort}, ""},
		"*":            {[]routing.PortRange{anyPort}, ""},
		"443":          {[]routing.PortRange{{First: 443, Last: 443}}, ""},
		"https":        {[]routing.PortRange{{First: 443, Last: 443}}, ""},
		"pcsync-https": {[]routing.PortRange{{First: 8443, Last: 8443}}, ""},
		"f5-iquery":    {[]routing.PortRange{{First: 4353, Last: 4353}}, ""},
		"8000-8080":    {[]routing.PortRange{{First: 8000, Last: 8080}}, ""},
		"0-65535":      {[]routing.PortRange{anyPort}, ""},
		"0-1000":       {[]routing.PortRange{{First: 1, Last: 1000}}, ""},
		"0-0":          {[]routing.PortRange{anyPort}, ""},
		"65536":        {nil, "65536"},
		"9-8":          {nil, "9-8"},
		"x-y":          {nil, "x-y"},
		"HTTP":         {nil, "HTTP"},
		"http-somehow": {nil, "http-somehow"},
		"443 and more": {nil, "443 and more"},
		"-1":           {nil, "-1"},
		"1-2-3":        {nil, "1-2-3"},
		"443-https":    {nil, "443-https"},
		"0x50":         {nil, "0x50"},
		"１２":           {nil, "１２"},
		"000443":       {[]routing.PortRange{{First: 443, Last: 443}}, ""},
		"http-alt":     {nil, "http-alt"}, // 591, 8008 and 8080
	} {
		ports, service := parsePort(text)
		if diff := cmp.Diff(want, result{ports, service}); diff != "" {
			t.Errorf("%q: %s", text, diff)
		}
	}
}

func TestLabel(t *testing.T) {
	for _, tt := range []struct{ words, want string }{
		{"ltm pool /Common/p", "ltm pool /Common/p"},
		{"ltm pool a\x1b[31mb", `ltm pool a\x1b[31mb`},
		{"ltm pool \u202e", `ltm pool \u202e`},
		{`ltm pool "x"`, `ltm pool "x"`},
		{`ltm pool \x`, `ltm pool \\x`},
		{"ltm pool \xff", "ltm pool ?"},
		{"ltm pool é", "ltm pool é"},
		{strings.Repeat("é", 300), strings.Repeat("é", 150) + "…"},
		{"a" + strings.Repeat("é", 300), "a" + strings.Repeat("é", 149) + "…"},
	} {
		if got := label(strings.Split(tt.words, " ")...); got != tt.want {
			t.Errorf("%q is %s, want %s", tt.words, got, tt.want)
		}
	}
}
