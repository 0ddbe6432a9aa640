package netlab

import (
	"cmp"
	"fmt"
	"hash/fnv"
	"maps"
	"math/rand/v2"
	"net/netip"
	"slices"
)

// drawer draws a network. Each decision has a random source of its own, named
// after it, so that dropping an ingredient does not affect the other ones.
type drawer struct {
	*Network
	dropped map[string]bool
}

// draw returns the network of a seed, without the ingredients dropped.
func draw(seed uint64, dropped ...string) *Network {
	d := &drawer{&Network{Seed: seed, Ingredients: map[string]bool{},
		Host: Host{Leases: map[string]string{}}}, map[string]bool{}}
	for _, name := range dropped {
		d.dropped[name] = true
	}
	d.drawSegments()
	d.drawStyles()
	d.drawRouters()
	d.drawListeners()
	d.writeHost()
	d.drawExtras()
	d.drawClients()
	d.wire()
	d.Host.Conf = d.conf()
	r := d.rand("order of links")
	r.Shuffle(len(d.Wires), func(i, j int) { d.Wires[i], d.Wires[j] = d.Wires[j], d.Wires[i] })
	return d.Network
}

func (d *drawer) rand(decision string) *rand.Rand {
	h := fnv.New64a()
	h.Write([]byte(decision))
	return rand.New(rand.NewPCG(d.Seed, h.Sum64()))
}

// has decides whether the network has an ingredient, at one of perhaps several
// places.
func (d *drawer) has(ingredient string, place any, percent int) bool {
	if d.dropped[ingredient] ||
		d.rand(fmt.Sprint(ingredient, place)).IntN(100) >= percent {
		return false
	}
	d.Ingredients[ingredient] = true
	return true
}

// choice is one of several, with its weight.
type choice[T any] struct {
	weight int
	value  T
}

// choose draws one of several.
func choose[T any](d *drawer, decision string, list []choice[T]) T {
	sum := 0
	for _, c := range list {
		sum += c.weight
	}
	n := d.rand(decision).IntN(sum)
	for _, c := range list {
		if n -= c.weight; n < 0 {
			return c.value
		}
	}
	panic("not reached")
}

func sorted[K cmp.Ordered, V any](m map[K]V) []K { return slices.Sorted(maps.Keys(m)) }

// drawSegments draws where the host has links, and the subnets there.
func (d *drawer) drawSegments() {
	count := choose(d, "segments", []choice[int]{{60, 2}, {40, 3}})
	nested := d.has("nested subnets", "", 18)
	for i := range count {
		s := d.segment(fmt.Sprintf("10.7.%d.0/24", i))
		switch {
		case i == 0 && nested:
			s.Subnets[0].Prefix = netip.MustParsePrefix("10.0.0.0/8")
		case i > 0 && d.has("slash 31", i, 9):
			s.Subnets[0].Prefix = netip.MustParsePrefix(fmt.Sprintf("10.7.%d.0/31", i))
		case i > 0 && d.has("two subnets on a link", i, 12):
			d.subnet(s, fmt.Sprintf("10.8.%d.0/24", i))
		}
		if d.has("ipv6", i, 60) {
			d.subnet(s, fmt.Sprintf("2001:db8:%d::/64", i))
		}
		if i > 0 && d.has("bridge with a nic", i, 12) {
			s.Link = fmt.Sprintf("br%d", i)
		}
	}
	if d.has("management link", "", 30) {
		d.segment("172.16.9.0/24")
	}
	if d.has("link without address", "", 14) {
		d.segment("192.0.2.0/24").Subnets[0].Bare = true
	}
}

func (d *drawer) segment(prefix string) *Segment {
	i := len(d.Segments)
	nic := fmt.Sprintf("eth%d", i)
	s := &Segment{Name: fmt.Sprintf("lan%d", i), Link: nic, NIC: nic}
	d.Segments = append(d.Segments, s)
	d.subnet(s, prefix)
	d.Wires = append(d.Wires, Wire{Station: host, Link: nic, Segment: s.Name})
	return s
}

func (d *drawer) subnet(s *Segment, prefix string) *Subnet {
	n := &Subnet{Prefix: netip.MustParsePrefix(prefix), Segment: slices.Index(d.Segments, s),
		Router: -1}
	s.Subnets = append(s.Subnets, n)
	return n
}

// host is the name of the station that lasthop works on.
const host = "host"

// management reports whether a segment is that of administrators: the host has
// no default there.
func (d *drawer) management(segment int) bool {
	return d.Segments[segment].Subnets[0].Prefix.String() == "172.16.9.0/24"
}

// drawRouters gives each subnet its router: one firewall with a leg in each
// segment, or one router for each. The second subnet of a link has its own if
// the host knows a gateway for it, and another for the first: what the host
// knows of a link serves all of its subnets.
func (d *drawer) drawRouters() {
	one := d.has("one firewall", "", 45)
	for i, s := range d.Segments {
		r := 0
		if i == 0 || !one {
			r = d.router(i, numRouter)
		} else {
			d.Routers[0].Legs = append(d.Routers[0].Legs, Leg{i, numRouter})
		}
		for k, n := range s.Subnets {
			n.Router = r
			if k > 0 && n.is4() && n.Style != styleNone &&
				s.Subnets[0].Style != styleNone {
				n.Router = d.router(i, numRouter)
			}
		}
	}
}

// router makes a router with one leg.
func (d *drawer) router(segment, num int) int {
	i := len(d.Routers)
	r := &Router{Name: fmt.Sprintf("r%d", i), Number: i, Legs: []Leg{{segment, num}}}
	if r.Strict = d.rand("strict"+r.Name).IntN(100) < 85; r.Strict {
		d.Ingredients["strict firewall"] = true
	}
	d.Routers = append(d.Routers, r)
	return i
}

// drawListeners gives each subnet its own address and a VIP or two.
func (d *drawer) drawListeners() {
	for i, s := range d.subnets() {
		if s.Bare {
			d.listener(s, s.at(numVIP), placeLo)
			continue
		}
		if !d.management(s.Segment) || d.rand(fmt.Sprint("mgmt listens", i)).IntN(3) == 0 {
			d.listener(s, s.at(numHost), placeOwn)
		}
		if s.pair() || d.management(s.Segment) {
			continue
		}
		for k := range 2 {
			if place := d.place(fmt.Sprint(i, " ", k), s); place != placeOwn {
				d.listener(s, s.at(numVIP+10*i+k), place)
			}
		}
	}
}

// place draws how the host has a VIP. If the place is dropped, the VIP is a
// plain one.
func (d *drawer) place(key string, s *Subnet) string {
	place := choose(d, "place"+key, []choice[string]{{18, placeOwn}, {16, placeVIP},
		{10, placeVIP32}, {5, placeVMAC}, {7, placeLo}, {5, placeBridge}, {6, placeLocal},
		{6, placeStandby}, {5, placeRouted}})
	switch {
	case place == placeOwn:
		return place
	case place == placeLocal && !d.decided(s):
		return placeVIP
	}
	if !d.has("place "+place, key, 100) {
		return placeVIP
	}
	return place
}

// decided reports whether the host knows the router of an address of a link
// that is in none of its subnets: the only one, or the best of main.
func (d *drawer) decided(s *Subnet) bool {
	first := d.Segments[s.Segment].Subnets[0]
	return !s.is4() || s == first && first.Style == styleMain ||
		!slices.ContainsFunc(d.Segments[s.Segment].Subnets,
			func(n *Subnet) bool { return n.is4() && n.Router != s.Router })
}

// routed are addresses in no subnet of the host.
var routed = map[bool]string{true: "203.0.113.0", false: "2001:db8:aa::"}

func (d *drawer) listener(s *Subnet, a netip.Addr, place string) *Listener {
	if place == placeRouted || place == placeLocal {
		b := netip.MustParseAddr(routed[s.is4()]).AsSlice()
		b[len(b)-1] = a.AsSlice()[len(b)-1]
		a, _ = netip.AddrFromSlice(b)
	}
	l := &Listener{Addr: a, Place: place, Subnet: s, Link: d.Segments[s.Segment].Link,
		Router: s.Router}
	d.Listeners = append(d.Listeners, l)
	return l
}

// conf returns an nginx.conf with all listeners.
func (d *drawer) conf() string {
	tcp, udp := "", ""
	wildcard := d.has("wildcard", "", 16)
	if wildcard {
		tcp = "    listen 80;\n    listen [::]:80;\n"
		udp = "    listen 53 udp;\n    listen [::]:53 udp;\n"
	}
	for _, l := range d.Listeners {
		if wildcard && l.Place != placeStandby {
			continue
		}
		a := netip.AddrPortFrom(l.Addr, portTCP)
		tcp += fmt.Sprintf("    listen %s;\n", a)
		udp += fmt.Sprintf("    listen %s udp;\n", netip.AddrPortFrom(l.Addr, portUDP))
	}
	return "events {}\nhttp {\n  server {\n" + tcp + "  }\n}\nstream {\n  server {\n" + udp +
		"    return pong;\n  }\n}\n"
}
