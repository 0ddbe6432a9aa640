package lasthop_test

import (
	"net/netip"
	"testing"
	"time"

	"lasthop/internal/nstest"
)

// TestMTU: the links have 1500 and 1400 bytes, behind router b there are 1300,
// and the table's routes say 1400. Everything arrives whole, by each router.
func TestMTU(t *testing.T) {
	l := newLab(t)
	l.serve()
	l.host.IP("link set e2 mtu 1400")
	l.routers["c"].IP("link set r0 mtu 1400")
	l.routers["b"].IP("link set r1 mtu 1300")
	s := l.steer(1 << 12)
	for i := range s.state.Routes {
		if s.state.Routes[i].Encap != "" {
			s.state.Routes[i].MTU = 1400
		}
	}
	s.install()
	for family, vip := range vips["lo"] {
		for _, r := range routers {
			if err := tcp(10, 20_000_000)(l.clients[r.name], vip); err != nil {
				t.Errorf("download by router %s, IPv%d: %v", r.name, family, err)
			}
			if err := whole(l.clients[r.name], vip, 3); err != nil {
				t.Errorf("a large datagram by router %s, IPv%d: %v", r.name,
					family, err)
			}
		}
	}
	if n := l.astray(); n != 0 {
		t.Errorf("%d packets went astray", n)
	}
	if n := s.counts().ByTable; n != 0 {
		t.Errorf("%d packets left by the table", n)
	}
}

// whole asks for 8,000 bytes in a datagram. The first ones are lost until the
// host knows what fits.
func whole(ns *nstest.NS, to netip.Addr, tries int) error {
	c, err := dial(ns, "udp", to, udpPort)
	if err != nil {
		return err
	}
	defer c.Close()
	for range tries {
		c.SetDeadline(time.Now().Add(soon))
		if _, err = c.Write([]byte{0, 0, 8000 >> 8, 8000 & 255, 0, 0, 0, 0}); err != nil {
			return err
		}
		if _, err = c.Read(make([]byte, 1<<16)); err == nil {
			return nil
		}
	}
	return err
}
