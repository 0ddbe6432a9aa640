package bigip

import (
	"fmt"
	"net/netip"
	"strings"

	"go4.org/netipx"

	"lasthop/routing"
)

func (b *builder) virtual(o *object) {
	v := Virtual{Name: o.full, Kind: o.kind, Type: typeOf(o), Protocol: "any",
		VLANs: b.scope(o), AutoLastHop: b.lastHop(o),
		Damaged: o.problem != "", Origin: o.origin()}
	if protocol := o.get("ip-protocol"); protocol != "" {
		v.Protocol = protocol
	}
	if source, _, ok := parsePrefix(o.get("source")); ok && source.Bits() > 0 {
		v.Source = source.Masked()
	}
	if o.has("disabled") {
		v.Disabled = label(o.kind, o.full)
	}
	b.place(&v, o)
	b.lastHopPool(&v, o)
	for _, name := range o.props["rules"].names() {
		r := Rule{}
		var rule *object
		if r.Name, rule = b.resolve(o, name, "ltm rule"); rule != nil {
			r.Commands, r.Origin = rule.commands, rule.origin()
		}
		v.Rules = append(v.Rules, r)
	}
	if v.VLANs.Unclear && v.Type != Internal {
		b.warn(o, "vlans-unclear", "is enabled on a list of VLANs, and the list is empty",
			"look on the BIG-IP where it served clients")
	}
	b.config.Virtuals = append(b.config.Virtuals, v)
}

// typeOf finds the flag that makes a virtual server something else than a
// standard one.
func typeOf(o *object) Type {
	for _, t := range []Type{IPForward, L2Forward, Reject, Internal, Stateless, DHCPRelay} {
		if value := o.get(string(t)); o.has(string(t)) && value != "disabled" &&
			value != "no" {
			return t
		}
	}
	return Standard
}

// scope reads on which VLANs an object serves. Without a flag the list is of
// those where it does not.
func (b *builder) scope(o *object) Scope {
	var names []string
	for _, name := range o.props["vlans"].names() {
		name, vlan := b.resolve(o, name, "net vlan")
		if o.problem != "" && vlan == nil {
			continue // a list that lost its end goes on with words that are no names
		}
		names = append(names, name)
	}
	switch {
	case !o.has("vlans-enabled"):
		return Scope{Except: names}
	case len(names) == 0:
		return Scope{Unclear: true}
	}
	return Scope{Only: names}
}

func (b *builder) lastHopPool(v *Virtual, o *object) {
	name := o.get("last-hop-pool")
	if name == "" {
		return
	}
	var pool *object
	v.LastHopPool, pool = b.resolve(o, name, "ltm pool")
	if pool == nil {
		b.warn(o, "undefined-pool", "its last-hop-pool is not in the files",
			"give the file that has it, or name the gateways")
	}
	v.LastHops = b.pools[v.LastHopPool].Members
}

// destinations are what a virtual server, or traffic-matching-criteria, say
// about the place where clients connect to.
type destinations struct {
	list     []Destination
	protocol string
	source   netip.Prefix
	disabled string // the virtual address that is switched off
}

// place finds where clients connect to.
func (b *builder) place(v *Virtual, o *object) {
	name := o.get("traffic-matching-criteria")
	text := o.get("destination")
	if o.kind == "gtm listener" {
		text = o.get("address")
	}
	switch {
	case name != "":
		d := b.criteria(v, o, name)
		v.Destinations, v.Source = d.list, d.source
		if d.protocol != "" {
			v.Protocol = d.protocol
		}
	case text != "":
		d := b.destination(o, text)
		v.Destinations = d.list
		if v.Disabled == "" {
			v.Disabled = d.disabled
		}
	case v.Type != Internal:
		b.warn(o, "no-destination", "has no destination",
			"without it nobody can say what it served")
	}
}

// destination resolves a text of one of F5's many shapes, from
// /Common/10.0.0.1%2:443 to serviceAddress:80 and 2001:db8::1.http.
func (b *builder) destination(o *object, text string) destinations {
	dir, base := "", text
	if i := strings.LastIndexByte(text, '/'); i >= 0 {
		dir, base = text[:i+1], text[i+1:]
	}
	d := Destination{Text: text, Origin: o.origin()}
	ways := splitPort(base)
	if o.kind == "gtm listener" {
		port := o.get("port")
		if port == "" {
			port = "domain" // F5's default
		}
		ways = [][2]string{{base, port}}
	}
	for _, way := range ways {
		if address, ok := b.hostOf(o, &d, dir, way[0]); ok {
			d.Ports, d.Service = b.ports(o, way[1])
			return destinations{list: []Destination{d}, disabled: address}
		}
	}
	d.Ports, d.Service = b.ports(o, ways[0][1])
	b.warn(o, "bad-destination",
		"its destination is no address, nor a virtual address of the files",
		"give the file that has it")
	return destinations{list: []Destination{d}}
}

// hostOf fills in the addresses of d: those of a virtual address by name, or
// the address itself, under the virtual server's own mask if it has one. It
// returns the virtual address if that is switched off.
func (b *builder) hostOf(o *object, d *Destination, dir, host string) (disabled string, ok bool) {
	name, address := b.resolve(o, dir+host, "ltm virtual-address")
	text, mask, partition := host, o.get("mask"), o.partition
	if path := strings.Split(dir, "/"); len(path) > 2 {
		partition = path[1]
	}
	if address != nil {
		text = addressOf(address)
		if mask == "" {
			mask = address.get("mask")
		}
	}
	a, id, ok := parseAddr(text)
	if !ok {
		return "", false
	}
	bits, ok := maskBits(mask, a)
	if !ok {
		b.warn(o, "bad-mask", "its mask cannot be read", "the address alone is taken")
		bits = a.BitLen()
	}
	d.Addrs, d.Domain = netipx.RangeOfPrefix(netip.PrefixFrom(a, bits)),
		b.domainIn(partition, id)
	if address == nil {
		return "", true
	}
	d.Address = name
	if address.get("enabled") == "no" || address.has("disabled") {
		disabled = label(address.kind, address.full)
	}
	return disabled, true
}

// ports reads a port and warns of a service that is in no table.
func (b *builder) ports(o *object, text string) ([]routing.PortRange, string) {
	ports, service := parsePort(text)
	if service != "" {
		service = label(service)
		b.warn(o, "unknown-service", "its port is a name that is in no table",
			"look its number up on the BIG-IP")
	}
	return ports, service
}

// criteria resolves traffic-matching-criteria, once for all virtual servers
// that share them.
func (b *builder) criteria(v *Virtual, o *object, name string) destinations {
	name, t := b.resolve(o, name, "ltm traffic-matching-criteria")
	if t == nil {
		b.warn(o, "no-destination", "its traffic-matching-criteria are not in the files",
			"give the file that has them")
		return destinations{}
	}
	d, ok := b.where[name]
	if !ok {
		d = b.matching(t)
		b.where[name] = d
	}
	if len(d.list) == 0 {
		b.warn(o, "no-destination", "its traffic-matching-criteria name no address",
			"without one nobody can say what it served")
	}
	return d
}

func (b *builder) matching(t *object) destinations {
	d := destinations{protocol: t.get("protocol")}
	if p, _, ok := parsePrefix(t.get("source-address-inline")); ok && p.Bits() > 0 &&
		t.get("source-address-list") == "" {
		d.source = p.Masked()
	}
	domain := noDomain
	if name := t.get("route-domain"); name != "" {
		if _, rd := b.resolve(t, name, "net route-domain"); rd != nil {
			domain = b.numbers[rd.full]
		}
	}
	ports, service := b.matchingPorts(t)
	entries, missing := b.expand(t, "address")
	for _, e := range entries {
		r, id, ok := parseRange(e.text)
		if !ok {
			b.warn(e.in, "bad-address",
				"holds an entry that is no address, network or range",
				"look at its entries in the file")
			missing = append(missing, entry{e.in.full, e.in})
			continue
		}
		if id == noDomain {
			id = domain
		}
		d.list = append(d.list, Destination{Text: e.text, Addrs: r, Domain: b.domain(t, id),
			Ports: ports, Service: service, Origin: e.in.origin()})
	}
	for _, e := range missing {
		d.list = append(d.list, Destination{Text: e.text, Domain: b.domain(t, domain),
			Ports: ports, Service: service, Origin: e.in.origin()})
	}
	return d
}

func (b *builder) matchingPorts(t *object) (ports []routing.PortRange, service string) {
	entries, missing := b.expand(t, "port")
	list := t.get("destination-port-list")
	switch {
	case len(entries) == 0 && list == "":
		return b.ports(t, "")
	case len(entries) == 0:
		return nil, list // which is empty, or not in the files
	case len(missing) > 0:
		service = missing[0].text
	}
	for _, e := range entries {
		p, s := b.ports(e.in, e.text)
		ports = append(ports, p...)
		if s != "" {
			service = s
		}
	}
	return ports, service
}

// entry is one entry of a list, and the stanza that it is in.
type entry struct {
	text string
	in   *object
}

// maxEntries bounds what all lists together are expanded to: lists can hold
// lists, and many criteria can share them.
const maxEntries = 1 << 18

// expand returns what criteria name as destination, addresses or ports: a
// value, or all entries of a list and of the lists inside of it, and the names
// of lists with something that is not in the files. A list counts before the
// value, which tmsh writes beside it.
func (b *builder) expand(t *object, what string) (entries, missing []entry) {
	name := t.get("destination-" + what + "-list")
	if name == "" {
		if text := t.get("destination-" + what + "-inline"); text != "" {
			return []entry{{text, t}}, nil
		}
		return nil, nil
	}
	seen := map[*object]bool{}
	for todo := []entry{{name, t}}; len(todo) > 0 && b.entries < maxEntries; todo = todo[1:] {
		b.entries++
		_, list := b.resolve(todo[0].in, todo[0].text, "net "+what+"-list",
			"security shared-objects "+what+"-list", "security firewall "+what+"-list")
		if list == nil {
			b.warn(todo[0].in, "undefined-list",
				"refers to a list that is not in the files",
				"give the file that has it")
			missing = append(missing, todo[0])
			continue
		}
		if seen[list] {
			continue
		}
		seen[list] = true
		plural := map[string]string{"address": "addresses", "port": "ports"}[what]
		for text := range list.list(plural).entries() {
			b.entries++
			entries = append(entries, entry{text, list})
		}
		for inner := range list.list(what + "-lists").entries() {
			todo = append(todo, entry{inner, list})
		}
		if list.has("fqdns") || list.has("geo") {
			b.warn(list, "unresolved-list",
				"holds host names or countries, which are not resolved",
				"name the addresses")
			missing = append(missing, entry{list.full, list})
		}
	}
	if b.entries >= maxEntries && !b.full {
		b.full = true
		b.warn(t, "too-many-entries",
			fmt.Sprintf("with it, lists have more than %d entries: the rest is left "+
				"out", maxEntries), "give the virtual servers in parts")
	}
	return entries, missing
}
