package sim

import (
	"cmp"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"lasthop/routing"
)

// linkAdd reads `NAME [link PARENT] type KIND [table N]`.
func (s *Sim) linkAdd(args []string) error {
	o, err := options(args[1:], "type table link", "")
	if err != nil {
		return err
	}
	l := routing.Link{Index: len(s.Host.Links) + 1, Name: args[0], Kind: o["type"], MTU: 1500}
	switch l.Kind {
	case "veth":
		s.printf("link add %s type veth peer name p-%s\nlink set p-%s addrgenmode none up",
			l.Name, l.Name, l.Name)
	case "macvlan":
		l.Parent = o["link"]
		s.printf("link add link %s name %s type macvlan mode bridge", l.Parent, l.Name)
	case "bridge":
		s.printf("link add %s type bridge", l.Name)
	case "tun":
		l.PointToPoint = true
		s.printf("tuntap add dev %s mode tun", l.Name)
	case "wireguard":
		l.PointToPoint = true
	case "vrf":
		n, err := strconv.ParseUint(o["table"], 10, 32)
		if err != nil {
			return fmt.Errorf("a vrf wants a table")
		}
		l.Table = uint32(n)
		s.l3mdevRules()
	default:
		return fmt.Errorf("kind %q is not simulated", l.Kind)
	}
	s.printf("link set %s addrgenmode none", l.Name)
	s.Host.Links = append(s.Host.Links, l)
	return nil
}

// l3mdevRules adds what the kernel adds with the first VRF.
func (s *Sim) l3mdevRules() {
	if slices.ContainsFunc(s.Host.Links, func(l routing.Link) bool { return l.Kind == "vrf" }) {
		return
	}
	for _, f := range routing.Families {
		r := rule(f, 1000, 0)
		r.Opaque = "l3mdev"
		s.addRule(r)
	}
}

// linkSet reads `NAME up|down|group N|master NAME|mtu N …`; of a peer p-NAME,
// up and down are the carrier of NAME.
func (s *Sim) linkSet(args []string) error {
	if args[0] == "dev" {
		args = args[1:]
	}
	name, carrier := strings.CutPrefix(args[0], "p-")
	l := s.link(name)
	if l == nil {
		return fmt.Errorf("no link %s", name)
	}
	o, err := options(args[1:], "group master mtu", "up down")
	if err != nil {
		return err
	}
	s.printf("link set %s", strings.Join(args, " "))
	_, up := o["up"]
	_, down := o["down"]
	if carrier {
		l.Carrier = up
		return nil
	}
	l.Master = cmp.Or(o["master"], l.Master)
	switch {
	case up && !l.Up:
		s.up(l)
	case down && l.Up:
		s.down(l)
	}
	return errors.Join(number(&l.Group, o["group"]), number(&l.MTU, o["mtu"]))
}

// number sets a number that is given.
func number(v *int, s string) (err error) {
	if s != "" {
		*v, err = strconv.Atoi(s)
	}
	return err
}

func (s *Sim) link(name string) *routing.Link {
	i := slices.IndexFunc(s.Host.Links, func(l routing.Link) bool { return l.Name == name })
	if i < 0 {
		return nil
	}
	return &s.Host.Links[i]
}

// up is NETDEV_UP: the addresses that wait get their routes, and the link gets
// a link-local address.
func (s *Sim) up(l *routing.Link) {
	l.Up = true
	l.Carrier = l.Kind != "tun" // no program holds it open
	for _, a := range s.Host.Addrs {
		if a.Link == l.Name {
			s.addConnected(a)
		}
	}
	for _, r := range s.Host.Routes {
		for i := range r.Hops {
			if h := &r.Hops[i]; h.Link == l.Name {
				h.Dead, h.LinkDown = false, false
			}
		}
	}
	if l.Kind == "veth" || l.Kind == "bridge" {
		a := routing.Addr{Link: l.Name, Scope: routing.ScopeLink,
			Prefix: netip.MustParsePrefix(fmt.Sprintf("fe80::ff:%x/64", l.Index))}
		s.printf("addr add %s dev %s nodad", a.Prefix, l.Name)
		s.addAddr(a)
	}
}

// down is NETDEV_DOWN: IPv6 forgets the link's addresses, both families the
// routes through it and the neighbours.
func (s *Sim) down(l *routing.Link) {
	l.Up, l.Carrier = false, false
	s.Host.Neighs = slices.DeleteFunc(s.Host.Neighs, func(n routing.Neigh) bool {
		return n.Link == l.Name
	})
	s.Host.Addrs = slices.DeleteFunc(s.Host.Addrs, func(a routing.Addr) bool {
		return a.Link == l.Name && a.Prefix.Addr().Is6()
	})
	s.Host.Routes = slices.DeleteFunc(s.Host.Routes, func(r routing.Route) bool {
		return dead(r, l.Name)
	})
}

// dead marks next hops of a link that went down and reports whether none is
// left. IPv4 local routes stay.
func dead(r routing.Route, link string) bool {
	if len(r.Hops) == 0 || r.Family() == routing.IPv4 && r.Type == routing.Local {
		return false
	}
	for i := range r.Hops {
		if h := &r.Hops[i]; h.Link == link {
			h.Dead, h.LinkDown = true, true
		}
	}
	return !slices.ContainsFunc(r.Hops, func(h routing.Hop) bool { return !h.Dead })
}

// markLinkDown flags next hops whose link has no carrier, as the kernel does;
// local routes have no flag.
func (s *Sim) markLinkDown() {
	for _, r := range s.Host.Routes {
		for i := range r.Hops {
			if l := s.link(r.Hops[i].Link); l != nil && !l.Carrier &&
				r.Type != routing.Local {
				r.Hops[i].LinkDown = true
			}
		}
	}
}

// addrAdd reads `PREFIX dev LINK [peer PREFIX] [scope SCOPE] [noprefixroute]
// [nodad]`.
func (s *Sim) addrAdd(args []string) error {
	o, err := options(args[1:], "dev peer scope", "noprefixroute nodad")
	if err != nil {
		return err
	}
	a := routing.Addr{Link: o["dev"]}
	if a.Prefix, err = single(args[0]); err != nil {
		return err
	}
	if peer, ok := o["peer"]; ok {
		if a.Peer, err = single(peer); err != nil {
			return err
		}
		a.Prefix = netip.PrefixFrom(a.Prefix.Addr(), a.Peer.Bits())
	}
	_, a.NoPrefix = o["noprefixroute"]
	a.Scope = scope(a.Prefix.Addr(), o["scope"])
	l := s.link(a.Link)
	if l == nil {
		return fmt.Errorf("no link %s", a.Link)
	}
	text := strings.Join(args, " ")
	if a.Prefix.Addr().Is6() {
		if _, ok := o["nodad"]; !ok {
			text += " nodad"
		}
		if !l.Up {
			return fmt.Errorf("set the link up first: IPv6 addresses of links that " +
				"are down are not simulated")
		}
	}
	s.printf("addr add %s", text)
	s.addAddr(a)
	return nil
}

func single(s string) (netip.Prefix, error) {
	if strings.Contains(s, "/") {
		return netip.ParsePrefix(s)
	}
	a, err := netip.ParseAddr(s)
	return netip.PrefixFrom(a, a.BitLen()), err
}

func scope(a netip.Addr, word string) uint8 {
	switch {
	case a.IsLoopback(), word == "host" && a.Is4():
		return routing.ScopeHost
	case word == "link" && a.Is4(), a.IsLinkLocalUnicast() && a.Is6():
		return routing.ScopeLink
	}
	return routing.ScopeGlobal
}
