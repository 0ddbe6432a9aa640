package sim

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"lasthop/routing"
)

// add adds routes at the end of the list.
func (s *Sim) add(routes ...routing.Route) { s.Host.Routes = append(s.Host.Routes, routes...) }

// addAddr adds an address and the routes that come with it: fib_add_ifaddr of
// net/ipv4/fib_frontend.c and inet6_addr_add of net/ipv6/addrconf.c.
func (s *Sim) addAddr(a routing.Addr) {
	first := s.primary(a)
	s.Host.Addrs = append(s.Host.Addrs, a)
	local := s.auto(a.Link, routing.TableLocal, routing.Local,
		netip.PrefixFrom(a.Prefix.Addr(), a.Prefix.Addr().BitLen()), 0)
	if local.Family() == routing.IPv4 {
		local.Scope, local.Src = routing.ScopeHost, first
	}
	s.add(local)
	s.addConnected(a)
}

// primary is the first IPv4 address of the link in the same prefix, which may
// be the address itself.
func (s *Sim) primary(a routing.Addr) netip.Addr {
	for _, b := range s.Host.Addrs {
		if b.Link == a.Link && b.Connected() == a.Connected() {
			return b.Prefix.Addr()
		}
	}
	return a.Prefix.Addr()
}

// addConnected adds an address's routes after that in table local, if its link
// is up.
func (s *Sim) addConnected(a routing.Addr) {
	switch {
	case !s.link(a.Link).Up:
	case a.Prefix.Addr().Is4():
		s.addConnected4(a)
	case a.NoPrefix:
	default:
		unicast := func(dst netip.Prefix) routing.Route {
			return s.auto(a.Link, routing.TableMain, routing.Unicast, dst, 256)
		}
		if a.Peer.IsValid() {
			s.add(unicast(netip.PrefixFrom(a.Prefix.Addr(), 128)))
		}
		r := unicast(a.Connected())
		had := func(x routing.Route) bool { // because of another address of the link
			return x.RouteKey == r.RouteKey && x.Type == r.Type &&
				x.Protocol == kernel && x.Hops[0].Link == a.Link
		}
		if !slices.ContainsFunc(s.Host.Routes, had) {
			s.add(r)
		}
	}
}

func (s *Sim) addConnected4(a routing.Addr) {
	dst, src := a.Connected(), a.Prefix.Addr()
	if s.primary(a) != src || dst.IsSingleIP() && dst.Addr() == src {
		return // a secondary address, or a lone one
	}
	if !a.NoPrefix {
		r := s.auto(a.Link, routing.TableMain, routing.Unicast, dst, 0)
		r.Scope, r.Src = routing.ScopeLink, src
		if a.Link == "lo" {
			r.Type, r.Table, r.Scope = routing.Local, routing.TableLocal,
				routing.ScopeHost
		}
		s.add(r)
	}
	if dst.Bits() < 31 {
		r := s.auto(a.Link, routing.TableLocal, routing.Broadcast,
			netip.PrefixFrom(last(dst), 32), 0)
		r.Scope, r.Src = routing.ScopeLink, src
		s.add(r)
	}
}

// last is the broadcast address of an IPv4 prefix.
func last(p netip.Prefix) netip.Addr {
	b := p.Addr().As4()
	for bit := p.Bits(); bit < 32; bit++ {
		b[bit/8] |= 0x80 >> (bit % 8)
	}
	return netip.AddrFrom4(b)
}

// auto is a route that the kernel adds itself. Those of a link in a VRF are in
// the VRF's table.
func (s *Sim) auto(link string, table uint32, t routing.RouteType, dst netip.Prefix,
	metric uint32) routing.Route {
	if l := s.link(link); l != nil && l.Master != "" {
		if master := s.link(l.Master); master != nil && master.Kind == "vrf" {
			table = master.Table
		}
	}
	return routing.Route{RouteKey: routing.RouteKey{Table: table, Dst: dst, Metric: metric},
		Type: t, Protocol: kernel,
		Hops: []routing.Hop{{Link: link, Weight: 1}}}
}

func (s *Sim) route(f routing.Family, verb string, args []string) error {
	r, err := routing.ParseRoute(f, strings.Join(args, " "))
	if err != nil {
		return err
	}
	for _, h := range r.Hops {
		if s.link(h.Link) == nil {
			return fmt.Errorf("no link %s", h.Link)
		}
	}
	if f == routing.IPv6 && slices.Contains(args, "default") {
		// the line names the family if a batch cannot
		args[slices.Index(args, "default")] = "::/0"
	}
	// `ip route add` locks rto_min by itself, and has no word for the lock
	s.printf("route %s %s", verb,
		strings.Replace(strings.Join(args, " "), "rto_min lock", "rto_min", 1))
	i := slices.IndexFunc(s.Host.Routes, func(x routing.Route) bool {
		return x.RouteKey == r.RouteKey && x.Source() == r.Source() &&
			strings.HasPrefix(x.Opaque, "tos ") == strings.HasPrefix(r.Opaque, "tos ")
	})
	switch {
	case verb == "del" && i < 0:
		return fmt.Errorf("no such route")
	case verb == "del":
		s.Host.Routes = slices.Delete(s.Host.Routes, i, i+1)
	case i < 0:
		s.add(r)
	case verb == "add":
		return fmt.Errorf("there is such a route already: %s", s.Host.Routes[i])
	case verb == "replace":
		s.Host.Routes[i] = r
	case f == routing.IPv6 && r.Hops[0].Via.IsValid() && s.Host.Routes[i].Pref == r.Pref:
		// siblings are one multipath route
		s.Host.Routes[i].Hops = append(s.Host.Routes[i].Hops, r.Hops...)
	default:
		s.add(r)
	}
	return nil
}
