package flow

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"lasthop/routing"
)

// TestNames: which packets name a MAC, and which question stays without an
// answer.
func TestNames(t *testing.T) {
	addr := netip.MustParseAddr
	router := routing.MAC{2, 0, 0, 0, 0, 1}
	arp := func(kind uint8, leaves bool, src, dst string) Packet {
		p := Packet{Meta: Meta{Link: 2, Proto: etherARP}, Kind: kind, From: router,
			Src: addr(src), Dst: addr(dst)}
		if leaves {
			p.Type = typeOutgoing
		}
		return p
	}
	nd := func(kind uint8, leaves bool, src, target string) Packet {
		p := arp(kind, leaves, src, "ff02::1")
		p.Meta.Proto, p.Proto, p.Target = etherIPv6, protoICMP6, addr(target)
		return p
	}
	vrrp := Packet{Meta: Meta{Link: 2, Proto: etherIPv4, Type: typeMulticast}, From: router,
		Proto: protoVRRP, Src: addr("10.7.0.2"), Dst: addr("224.0.0.18")}
	for _, tt := range []struct {
		name    string
		packets []Packet
		want    string // names, and what was asked in vain for 10.7.1.100 and 2001:db8::9
	}{
		{"ARP reply", []Packet{arp(2, false, "10.7.0.1", "10.7.0.10")}, "10.7.0.1 ARP"},
		{"ARP request of a neighbour", []Packet{arp(1, false, "10.7.0.1", "10.7.0.10")}, "10.7.0.1 ARP"},
		{"ARP probe for a duplicate", []Packet{arp(1, false, "0.0.0.0", "10.7.0.10")}, ""},
		{"own question", []Packet{arp(1, true, "10.7.1.100", "10.7.0.9")}, "vain 10.7.0.9"},
		{"own question with another address, for a gateway", []Packet{arp(1, true, "10.7.0.10", "10.7.0.1")}, "vain 10.7.0.1"},
		{"own question for something else", []Packet{arp(1, true, "10.7.0.10", "10.7.0.8")}, ""},
		{"own question, answered", []Packet{arp(1, true, "10.7.1.100", "10.7.0.1"), arp(2, false, "10.7.0.1", "10.7.1.100")}, "10.7.0.1 ARP"},
		{"solicitation", []Packet{nd(135, false, "fe80::1", "2001:db8::9")}, "fe80::1 ND"},
		{"advertisement", []Packet{nd(136, false, "fe80::1", "2001:db8::1")}, "2001:db8::1 ND"},
		{"router", []Packet{nd(134, false, "fe80::1", "::")}, "fe80::1 RA"},
		{"own solicitation", []Packet{nd(135, true, "2001:db8::9", "2001:db8::1")}, "vain 2001:db8::1"},
		{"own solicitation, answered", []Packet{nd(135, true, "2001:db8::9", "2001:db8::1"), nd(136, false, "2001:db8::1", "2001:db8::1")}, "2001:db8::1 ND"},
		{"VRRP", []Packet{vrrp}, "10.7.0.2 VRRP"},
	} {
		n, names := newNetwork(tableHost(), tableListeners()), newNameTable()
		for _, p := range tt.packets {
			names.add(&p, "eth0")
		}
		if got := namesText(names, n); got != tt.want {
			t.Errorf("%s: got %q, want %q", tt.name, got, tt.want)
		}
		if early := vainAt(names, n, inVain/2); early != nil {
			t.Errorf("%s: too early: %v", tt.name, early)
		}
	}
}

// namesText prints what is known after a second.
func namesText(names *nameTable, n *network) string {
	var got []string
	for _, x := range names.list() {
		got = append(got, fmt.Sprint(x.Addr, " ", x.Source))
	}
	return strings.Join(append(got, vainAt(names, n, time.Second)...), ", ")
}

// vainAt names the next hops that did not answer at a time.
func vainAt(names *nameTable, n *network, at time.Duration) (got []string) {
	for _, local := range []string{"10.7.1.100", "2001:db8::9"} {
		if x, found := names.vain(n, netip.MustParseAddr(local), at); found {
			got = append(got, "vain "+x.addr.String())
		}
	}
	return got
}

// FuzzParse: no frame, however it is cut, is read beyond its end.
func FuzzParse(f *testing.F) {
	f.Add([]byte{0x45, 0, 0, 40}, uint16(etherIPv4), 0)
	f.Add(make([]byte, 90), uint16(etherIPv6), 14)
	f.Add(make([]byte, 42), uint16(etherARP), 14)
	f.Fuzz(func(t *testing.T, frame []byte, proto uint16, header int) {
		p, ok := Parse(Meta{HAType: hatypeEther, Proto: proto, Header: header}, frame, 1)
		if ok && p.class() == unwanted {
			t.Errorf("%+v is read, and of no class", p)
		}
		if ok {
			tab := newTestTable()
			tab.add(&p)
		}
	})
}
