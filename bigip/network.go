package bigip

import (
	"cmp"
	"net/netip"
	"path"
	"strconv"

	"go4.org/netipx"
)

func (b *builder) routeDomain(o *object) {
	id, ok := o.domainID()
	if !ok {
		b.warn(o, "no-id", "has no id: migrate treats its VLANs as those of route domain 0",
			"check its id in the file")
	}
	d := RouteDomain{Name: o.full, ID: id, Origin: o.origin()}
	for name := range o.list("routing-protocol").entries() {
		d.Protocols = append(d.Protocols, label(name))
	}
	for _, name := range o.value("vlans").names() {
		name, _ = b.resolve(o, name, "net vlan")
		b.domains[name] = id
	}
	b.Domains = append(b.Domains, d)
}

// domainID returns the number of a route domain: its id, else its name.
func (o *object) domainID() (int, bool) {
	if o.get("id") != "" {
		return o.number("id"), true
	}
	id, err := strconv.ParseUint(path.Base(o.full), 10, 16)
	return int(id), err == nil
}

func (b *builder) vlan(o *object) {
	v := VLAN{Name: o.full, Kind: "vlan", AutoLastHop: b.lastHop(o), Origin: o.origin(),
		SourceChecking: o.get("source-checking") == "enabled"}
	switch o.kind {
	case "net vlan-group":
		v.Kind = "vlan-group"
		for name := range o.list("members").entries() {
			name, _ = b.resolve(o, name, "net vlan")
			v.Members = append(v.Members, name)
		}
	case "net tunnels tunnel":
		v.Kind, v.Proxy = "tunnel", path.Base(o.get("profile")) == "tcp-forward"
	}
	var known bool
	if v.Domain, known = b.domains[o.full]; !known {
		v.Domain = b.ids[o.partition]
	}
	b.VLANs = append(b.VLANs, v)
}

func (b *builder) self(o *object) {
	p, id, ok := parsePrefix(o.get("address"))
	if !ok {
		b.warn(o, "bad-address", "migrate cannot read its address",
			"check its address in the file")
		return
	}
	group := b.reference(o, "traffic-group", "cm traffic-group")
	b.Selfs = append(b.Selfs, Self{Name: o.full, Prefix: p,
		Domain: b.domain(o.partition, id), VLAN: b.reference(o, "vlan", "net vlan"),
		Origin:   o.origin(),
		Floating: group != "" && path.Base(group) != "traffic-group-local-only"})
}

func (b *builder) route(o *object) {
	network, id, ok := parsePrefix(o.get("network"))
	if !ok {
		b.warn(o, "bad-route", "its network is missing or not readable",
			"check its network in the file")
		return
	}
	r := Route{Name: o.full, Network: network.Masked(), Origin: o.origin(),
		Pool: b.reference(o, "pool", "ltm pool"), Interface: b.reference(o, "interface",
			"net vlan")}
	gateway, gatewayID, ok := parseAddr(o.get("gw"))
	if ok {
		r.Gateway = gateway
	}
	if id == noDomain && ok {
		id = gatewayID
	}
	r.Domain = b.domain(o.partition, id)
	if !ok && r.Pool == "" && r.Interface == "" && !o.has("blackhole") {
		b.warn(o, "bad-route", "has no readable gateway, pool or interface",
			"check its gw in the file")
		return
	}
	b.Routes = append(b.Routes, r)
}

func (b *builder) pool(o *object) {
	p := Pool{Name: o.full, Origin: o.origin()}
	for name, block := range o.list("members").entries() {
		p.Members = append(p.Members, b.member(o, name, block))
	}
	b.pools[o.full] = p
	b.Pools = append(b.Pools, p)
}

// member reads a member of a pool. Its address is its own property, else in its
// name, else that of its node.
func (b *builder) member(o *object, name string, block tokens) Member {
	m := Member{Name: full(name, o.partition)}
	address := ""
	for key, value := range block.properties() {
		switch key.text {
		case "address":
			address = value.first()
		case "session", "state":
			m.Disabled = m.Disabled || value.first() == "user-disabled" ||
				value.first() == "user-down"
		}
	}
	a, id, ok := parseAddr(address)
	for _, way := range splitPort(path.Base(name)) {
		if ok {
			break
		}
		if a, id, ok = parseAddr(way[0]); ok {
			break
		}
		if _, node := b.resolve(o, path.Join(path.Dir(name), way[0]),
			"ltm node"); node != nil {
			a, id, ok = parseAddr(node.get("address"))
		}
	}
	if ok && !a.IsUnspecified() { // F5 writes any6 for a host name
		m.Addr, m.Domain = a, b.domain(o.partition, id)
	}
	return m
}

func (b *builder) virtualAddress(o *object) {
	addr, id, ok := parseAddr(addressOf(o))
	bits := 0
	if ok {
		bits, ok = maskBits(o.get("mask"), addr)
	}
	if !ok {
		b.warn(o, "bad-address", "migrate cannot read its address or mask",
			"check its address and mask in the file")
		return
	}
	b.Addresses = append(b.Addresses, VirtualAddress{Name: o.full,
		Addrs:  netipx.RangeOfPrefix(netip.PrefixFrom(addr, bits)),
		Domain: b.domain(o.partition, id), Disabled: o.off(),
		NoARP:        o.get("arp") == "disabled",
		Advertised:   advertised(o.get("route-advertisement")),
		TrafficGroup: b.reference(o, "traffic-group", "cm traffic-group"),
		Origin:       o.origin()})
}

// advertised reads route-advertisement: selective, always, any, all, enabled.
func advertised(value string) bool { return value != "" && value != "disabled" }

// addressOf returns the address of a virtual address: a property, else its
// name.
func addressOf(o *object) string { return cmp.Or(o.get("address"), path.Base(o.full)) }

// off reports whether a virtual address is switched off.
func (o *object) off() bool { return o.get("enabled") == "no" || o.has("disabled") }

func (b *builder) snat(o *object) {
	if !o.has("automap") && o.get("snatpool") == "" {
		b.translatesTo(o, o.get("translation"))
	}
	b.SNATs = append(b.SNATs, SNAT{o.full, o.origin()})
}

func (b *builder) nat(o *object) {
	b.translation(o, o.kind, o.full, o.get("translation-address"))
	b.NATs = append(b.NATs, NAT{o.full, o.origin()})
}

func (b *builder) snatPool(o *object) {
	p := SNATPool{Name: o.full}
	for name := range o.list("members").entries() {
		p.Members = append(p.Members, b.translatesTo(o, name))
	}
	b.SNATPools = append(b.SNATPools, p)
}

func (b *builder) snatTranslation(o *object) {
	b.translation(o, o.kind, o.full, addressOf(o))
}

// translatesTo records the name of an SNAT translation, and returns it in full.
// A translation with a stanza is recorded by that.
func (b *builder) translatesTo(o *object, name string) string {
	full, stanza := b.resolve(o, name, "ltm snat-translation")
	if stanza == nil && !b.translated[full] {
		b.translated[full] = true
		b.translation(o, "ltm snat-translation", full, path.Base(name))
	}
	return full
}

// translation records an address that the BIG-IP translates to.
func (b *builder) translation(o *object, kind, name, address string) {
	if addr, id, ok := parseAddr(address); ok {
		b.Translations = append(b.Translations, Translation{Kind: kind, Name: name,
			Addr: addr, Domain: b.domain(o.partition, id),
			NoARP: o.get("arp") == "disabled", Origin: o.origin()})
	}
}

func (b *builder) device(o *object) {
	d := Device{Name: o.full, Hostname: o.get("hostname"),
		Self: o.get("self-device") == "true", Origin: o.origin()}
	for _, key := range []string{"configsync-ip", "mirror-ip", "mirror-secondary-ip"} {
		d.addHA(o.get(key))
	}
	blocks := o.list("unicast-address")
	for i := range blocks {
		if blocks[i].text == "ip" && i+1 < len(blocks) {
			d.addHA(blocks[i+1].text)
		}
	}
	b.Devices = append(b.Devices, d)
}

// addHA adds an address that the unit uses for the other units; any6 is none.
func (d *Device) addHA(text string) {
	if a, _, ok := parseAddr(text); ok && !a.IsUnspecified() {
		d.HA = append(d.HA, a)
	}
}

func (b *builder) deviceGroup(o *object) {
	g := DeviceGroup{Name: o.full, Failover: o.get("type") == "sync-failover",
		AutoSync:   o.get("auto-sync") == "enabled",
		SaveOnSync: o.get("save-on-auto-sync") == "true", Origin: o.origin()}
	for name := range o.list("devices").entries() {
		name, _ = b.resolve(o, name, "cm device")
		g.Devices = append(g.Devices, name)
	}
	b.DeviceGroups = append(b.DeviceGroups, g)
}
