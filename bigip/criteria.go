package bigip

import (
	"fmt"
	"net/netip"
	"slices"

	"go4.org/netipx"

	"lasthop/routing"
)

// destinations are where clients of a virtual server connect to, as it says
// itself or its traffic-matching-criteria say.
type destinations struct {
	list     []Destination
	protocol string
	source   netip.Prefix
	disabled string // the virtual address that is switched off
	unjudged []string
}

// criteria resolves traffic-matching-criteria and the lists that they name.
type criteria struct {
	*index
	known   map[string]destinations // by name
	entries int                     // of lists, so far
	full    bool                    // more than maxEntries of them
}

// of resolves the criteria of a virtual server, once for all that share them.
func (c *criteria) of(v *Virtual, o *object, name string) destinations {
	name, t := c.resolve(o, name, "ltm traffic-matching-criteria",
		"security protected-servers traffic-matching-criteria")
	if t == nil {
		c.warn(o, "no-destination", "its traffic-matching-criteria are not in the files",
			"give the file that has them")
		return destinations{}
	}
	d, ok := c.known[name]
	if !ok {
		d = c.matching(t)
		c.known[name] = d
	}
	if len(d.list) == 0 {
		c.warn(o, "no-destination", "its traffic-matching-criteria name no address, so "+
			"migrate cannot tell what it served", "give the file that has it")
	}
	return d
}

// criteriaKeys are the properties of traffic-matching-criteria that are judged,
// and those that do not affect clients.
var criteriaKeys = set("app-service, description, destination-address-inline, " +
	"destination-address-list, destination-port-inline, destination-port-list, partition, " +
	"protocol, route-domain, source-address-inline, source-port-inline")

func (c *criteria) matching(t *object) destinations {
	d := destinations{protocol: t.get("protocol")}
	if p, _, ok := parsePrefix(t.get("source-address-inline")); ok && p.Bits() > 0 &&
		t.get("source-address-list") == "" {
		d.source = p.Masked()
	}
	var keys []string
	for _, p := range t.props {
		keys = append(keys, p.name)
	}
	slices.Sort(keys)
	for _, key := range slices.Compact(keys) {
		if !criteriaKeys[key] {
			d.unjudged = append(d.unjudged, "traffic-matching-criteria "+label(key))
		}
	}
	domain := noDomain
	if name := t.get("route-domain"); name != "" {
		if _, rd := c.resolve(t, name, "net route-domain"); rd != nil {
			domain, _ = rd.domainID()
		}
	}
	ports, service := c.destinationPorts(t)
	add := func(e entry, addrs netipx.IPRange, id int) {
		if id == noDomain {
			id = domain
		}
		d.list = append(d.list, Destination{Text: e.text, Addrs: addrs,
			Domain: c.domain(t.partition, id),
			Ports:  ports, Service: service, Origin: e.in.origin()})
	}
	entries, missing := c.expand(t, "address")
	for _, e := range entries {
		r, id, ok := parseRange(e.text)
		if !ok {
			c.warn(e.in, "bad-address",
				"has an entry that is not an address, network or range",
				"check its entries in the file")
			missing = append(missing, entry{e.in.full, e.in})
			continue
		}
		add(e, r, id)
	}
	for _, e := range missing {
		add(e, netipx.IPRange{}, noDomain)
	}
	return d
}

func (c *criteria) destinationPorts(t *object) (ports []routing.PortRange, service string) {
	entries, missing := c.expand(t, "port")
	list := t.get("destination-port-list")
	switch {
	case len(entries) == 0 && list == "":
		return c.ports(t, "")
	case len(entries) == 0:
		return nil, list // which is empty, or not in the files
	case len(missing) > 0:
		service = missing[0].text
	}
	for _, e := range entries {
		p, s := c.ports(e.in, e.text)
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
// value, or all entries of a list and of the lists inside of it. missing are
// the lists that are not in the files, or that have an entry that cannot be
// resolved. A list takes precedence over the value, which tmsh also writes.
func (c *criteria) expand(t *object, what string) (entries, missing []entry) {
	name := t.get("destination-" + what + "-list")
	if name == "" {
		if text := t.get("destination-" + what + "-inline"); text != "" {
			return []entry{{text, t}}, nil
		}
		return nil, nil
	}
	seen := map[*object]bool{}
	for todo := []entry{{name, t}}; len(todo) > 0 && c.entries < maxEntries; todo = todo[1:] {
		c.entries++
		_, list := c.resolve(todo[0].in, todo[0].text, "net "+what+"-list",
			"security shared-objects "+what+"-list", "security firewall "+what+"-list")
		if list == nil {
			c.warn(todo[0].in, "undefined-list",
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
			c.entries++
			entries = append(entries, entry{text, list})
		}
		for inner := range list.list(what + "-lists").entries() {
			todo = append(todo, entry{inner, list})
		}
		if list.has("fqdns") || list.has("geo") {
			c.warn(list, "unresolved-list",
				"has host names or countries, which migrate does not resolve",
				"name the addresses")
			missing = append(missing, entry{list.full, list})
		}
	}
	if c.entries >= maxEntries && !c.full {
		c.full = true
		c.warn(t, "too-many-entries",
			fmt.Sprintf("with it, lists have more than %d entries: migrate ignores "+
				"further ones", maxEntries), "give the virtual servers in parts")
	}
	return entries, missing
}
