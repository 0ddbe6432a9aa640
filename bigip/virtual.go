package bigip

import (
	"cmp"
	"net/netip"
	"strings"

	"go4.org/netipx"
)

func (b *builder) virtual(o *object) {
	v := Virtual{Name: o.full, Kind: o.kind, Type: typeOf(o),
		Service: b.service(o), VLANs: b.scope(o),
		AutoLastHop: b.lastHop(o), Damaged: o.problem != "", Origin: o.origin()}
	if source, _, ok := parsePrefix(o.get("source")); ok && source.Bits() > 0 {
		v.Source = source.Masked()
	}
	if o.has("disabled") {
		v.Disabled = label(o.kind, o.full)
	}
	b.servers(&v, o)
	b.place(&v, o)
	b.lastHopPool(&v, o)
	for _, name := range o.value("rules").names() {
		r := Rule{}
		var rule *object
		if r.Name, rule = b.resolve(o, name, "ltm rule"); rule != nil {
			r.Commands, r.Origin = b.commandsOf(rule), rule.origin()
		}
		v.Rules = append(v.Rules, r)
	}
	if v.VLANs.Unclear && v.Type != Internal {
		b.warn(o, "vlans-unclear", "is enabled on a list of VLANs, and the list is empty",
			"check on the BIG-IP where it served clients")
	}
	b.Virtuals = append(b.Virtuals, v)
}

// servers reads how a virtual server reaches its servers.
func (x *index) servers(v *Virtual, o *object) {
	s := &v.Servers
	s.Pool = x.reference(o, "pool", "ltm pool")
	s.NoTranslation = o.get("translate-address") == "disabled"
	// of BIG-IP 11.3 and older
	s.SNAT = cmp.Or(x.reference(o, "snatpool", "ltm snatpool"), o.get("snat"))
	block, _ := o.value("source-address-translation").block()
	for key, value := range block.properties() {
		switch {
		case key.text == "type" && value.first() != "none":
			s.SNAT = cmp.Or(s.SNAT, value.first())
		case key.text == "pool":
			s.SNAT, _ = x.resolve(o, value.first(), "ltm snatpool")
		}
	}
	for _, key := range unjudged {
		if !o.has(key) {
			continue
		}
		block, _ := o.value(key).block()
		switch value := o.get(key); {
		case off[value] && len(block) == 0:
		case key != "source-port" || value == "preserve-strict":
			s.Unjudged = append(s.Unjudged, key)
		}
	}
}

// off are values that switch a property off; get returns "" for none.
var off = map[string]bool{"": true, "none": true, "disabled": true, "0": true}

// unjudged are the properties of a virtual server that decide which clients are
// answered, or by which server, and that this package does not judge.
var unjudged = strings.Split("bwc-policy, clone-pools, connection-limit, "+
	"fw-enforced-policy, ip-intelligence-policy, nat64, per-flow-request-access-policy, "+
	"policies, rate-class, rate-limit, security-nat-policy, service-down-immediate-action, "+
	"source-port, transparent-nexthop", ", ")

// typeOf finds the flag that makes a virtual server something other than a
// standard one.
func typeOf(o *object) Type {
	for _, t := range []Type{IPForward, L2Forward, Reject, Internal, Stateless, DHCPRelay} {
		value, ok := o.property(string(t))
		if ok && value.first() != "disabled" && value.first() != "no" {
			return t
		}
	}
	return Standard
}

func (b *builder) lastHopPool(v *Virtual, o *object) {
	name := o.get("last-hop-pool")
	if name == "" {
		return
	}
	var pool *object
	if v.LastHopPool, pool = b.resolve(o, name, "ltm pool"); pool == nil {
		b.warn(o, "undefined-pool", "its last-hop-pool is not in the files",
			"give the file that has it, or name the gateways")
	}
	v.LastHops = b.pools[v.LastHopPool].Members
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
		d := b.criteria.of(v, o, name)
		v.Destinations, v.Source, v.Protocol = d.list, d.source,
			cmp.Or(d.protocol, v.Protocol)
		v.Servers.Unjudged = append(v.Servers.Unjudged, d.unjudged...)
	case text != "":
		d := b.destination(o, text)
		v.Destinations, v.Disabled = d.list, cmp.Or(v.Disabled, d.disabled)
	case v.Type != Internal:
		b.warn(o, "no-destination", "has no destination, so migrate cannot tell what it "+
			"served", "give the file that has it")
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
		ways = [][2]string{{base, cmp.Or(o.get("port"), "domain")}} // F5's default
	}
	for _, way := range ways {
		if address, ok := b.hostOf(o, &d, dir, way[0]); ok {
			d.Ports, d.Service = b.ports(o, way[1])
			return destinations{list: []Destination{d}, disabled: address}
		}
	}
	d.Ports, d.Service = b.ports(o, ways[0][1])
	b.warn(o, "bad-destination",
		"its destination is neither an address nor a virtual address of the files",
		"give the file that has it")
	return destinations{list: []Destination{d}}
}

// hostOf fills in the addresses of d: those of a virtual address by name, or
// the address itself, under the virtual server's own mask if it has one. It
// returns the virtual address if that is switched off.
func (b *builder) hostOf(o *object, d *Destination, dir, host string) (disabled string, ok bool) {
	name, address := b.resolve(o, dir+host, "ltm virtual-address")
	text, mask, partition := host, o.get("mask"), partitionOf(dir, o.partition)
	if address != nil {
		text, mask = addressOf(address), cmp.Or(mask, address.get("mask"))
	}
	a, id, ok := parseAddr(text)
	if !ok {
		return "", false
	}
	bits, ok := maskBits(mask, a)
	if !ok {
		b.warn(o, "bad-mask", "migrate cannot read its mask, and uses the address alone",
			"check its mask in the file")
		bits = a.BitLen()
	}
	d.Addrs, d.Domain = netipx.RangeOfPrefix(netip.PrefixFrom(a, bits)),
		b.domain(partition, id)
	if address == nil {
		return "", true
	}
	d.Address = name
	if address.off() {
		disabled = label(address.kind, address.full)
	}
	return disabled, true
}
