package host

import (
	"fmt"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"lasthop/internal/nstest"
	"lasthop/routing"
)

// FuzzEvents: no message makes it panic, no event is without a kind and a text,
// and no message takes more than 20 µs and 2 µs a byte, ten times what a busy
// machine takes.
func FuzzEvents(f *testing.F) {
	link := newMessage(unix.IfInfomsg{Index: 2, Flags: unix.IFF_UP})
	link.put(unix.IFLA_IFNAME, []byte("eth1\x00"))
	link.putUint32(unix.IFLA_GROUP, 76)
	addr := newMessage(unix.IfAddrmsg{Family: unix.AF_INET, Prefixlen: 24, Index: 2})
	addr.put(unix.IFA_LOCAL, []byte{10, 0, 1, 10})
	addr.put(unix.IFA_ADDRESS, []byte{10, 0, 1, 11})
	forwarding := newMessage(netconf{family: unix.AF_INET})
	forwarding.putUint32(netconfIndex, 1)
	forwarding.putUint32(netconfForwarding, 1)
	route := encodeRouteKey(routing.Route{RouteKey: routing.RouteKey{Table: 20431,
		Dst: routing.IPv4.All()}, Type: routing.Unicast})
	rule := encodeRule(routing.NewRule(routing.IPv6, 5199, 20431))
	for kind, data := range map[uint16][]byte{unix.RTM_NEWLINK: link.data,
		unix.RTM_DELLINK: link.data, unix.RTM_NEWADDR: addr.data,
		unix.RTM_DELADDR: addr.data, unix.RTM_NEWNETCONF: forwarding.data,
		unix.RTM_NEWROUTE: route, unix.RTM_DELROUTE: route, unix.RTM_NEWRULE: rule,
		unix.RTM_DELRULE: rule} {
		f.Add(kind, uint16(0), data)
		f.Add(kind, uint16(unix.NLM_F_MULTI|unix.NLM_F_REPLACE), data)
	}
	f.Fuzz(func(t *testing.T, kind, flags uint16, data []byte) {
		s := &subscription{numbers: routing.DefaultNumbers, echoes: &echoes{},
			out: make(chan Event, eventQueue), links: map[int]linkState{},
			names: map[int]string{1: "eth0"}}
		m := syscall.NetlinkMessage{Data: data,
			Header: syscall.NlMsghdr{Type: kind, Flags: flags}}
		const times = 100
		most := 20*time.Microsecond + 2*time.Microsecond*time.Duration(len(data))
		nstest.Takes(t, times*most, fmt.Sprintf("%d bytes, %d times", len(data), times),
			func() {
				for range times {
					if err := s.read([]syscall.NetlinkMessage{m}); err != nil {
						t.Fatal(err)
					}
				}
			})
		for len(s.out) > 0 {
			if e := <-s.out; e.Kind == "" || e.Text == "" {
				t.Fatalf("an event without words: %+v", e)
			}
		}
	})
}
