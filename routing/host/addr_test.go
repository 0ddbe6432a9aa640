package host

import (
	"net/netip"
	"testing"

	"lasthop/routing"

	"golang.org/x/sys/unix"
)

// Which of an address's attributes is the address, and which its peer, differs
// from family to family.
func TestDecodeAddr(t *testing.T) {
	n := names{links: map[int]string{1: "eth0"}}
	for _, c := range []struct {
		name           string
		header         unix.IfAddrmsg
		address, local string
		flags          uint32
		want           routing.Addr
	}{
		{"IPv4", unix.IfAddrmsg{Family: unix.AF_INET, Prefixlen: 24, Index: 1},
			"10.0.0.2", "10.0.0.2", unix.IFA_F_SECONDARY | unix.IFA_F_NOPREFIXROUTE,
			routing.Addr{Prefix: netip.MustParsePrefix("10.0.0.2/24"), NoPrefix: true}},
		{"IPv4 peer", unix.IfAddrmsg{Family: unix.AF_INET, Prefixlen: 30, Index: 1},
			"10.9.0.2", "10.9.0.1", 0,
			routing.Addr{Prefix: netip.MustParsePrefix("10.9.0.1/32"),
				Peer: netip.MustParsePrefix("10.9.0.2/30")}},
		{"IPv6", unix.IfAddrmsg{Family: unix.AF_INET6, Prefixlen: 64, Index: 1, Scope: 253},
			"fe80::1", "", unix.IFA_F_TEMPORARY | unix.IFA_F_TENTATIVE,
			routing.Addr{Prefix: netip.MustParsePrefix("fe80::1/64"), Scope: 253,
				Temporary: true, Tentative: true}},
		{"IPv6 peer", unix.IfAddrmsg{Family: unix.AF_INET6, Prefixlen: 126, Index: 1},
			"2001:db8::2", "2001:db8::1", 0,
			routing.Addr{Prefix: netip.MustParsePrefix("2001:db8::1/128"),
				Peer: netip.MustParsePrefix("2001:db8::2/126")}},
		{"another family", unix.IfAddrmsg{Family: unix.AF_PHONET, Index: 1}, "10.0.0.2", "", 0,
			routing.Addr{}},
		{"a link that has just come", unix.IfAddrmsg{Family: unix.AF_INET, Prefixlen: 24,
			Index: 2}, "10.0.0.2", "10.0.0.2", 0, routing.Addr{}},
		{"no address", unix.IfAddrmsg{Family: unix.AF_INET, Prefixlen: 24, Index: 1}, "", "",
			0, routing.Addr{}},
	} {
		m := newMessage(c.header)
		if c.address != "" {
			m.putAddr(unix.IFA_ADDRESS, netip.MustParseAddr(c.address))
		}
		if c.local != "" {
			m.putAddr(unix.IFA_LOCAL, netip.MustParseAddr(c.local))
		}
		m.putUint32(unix.IFA_FLAGS, c.flags)
		got, ok, err := decodeAddr(m.data, n)
		wanted := c.want.Prefix.IsValid()
		if c.want.Link = "eth0"; err != nil || ok != wanted || ok && got != c.want {
			t.Errorf("%s: %+v, %v, %v, want %+v", c.name, got, ok, err, c.want)
		}
		if _, _, err := decodeAddr(m.data[:len(m.data)-1], n); err == nil {
			t.Errorf("%s: no error for a message that ends early", c.name)
		}
	}
}
