package bigip

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// LastHopVariable is the name of the db variable that Config.Global is.
const LastHopVariable = "connection.autolasthop"

// modelled are the kinds of stanzas whose bodies are read; of other kinds
// nothing is kept.
var modelled = set("ltm virtual, ltm virtual-address, ltm traffic-matching-criteria, " +
	"security protected-servers traffic-matching-criteria, gtm listener, net " +
	"address-list, security shared-objects address-list, security firewall " +
	"address-list, net port-list, security shared-objects port-list, security firewall " +
	"port-list, net vlan, net vlan-group, net tunnels tunnel, net self, net route, net " +
	"route-domain, ltm pool, ltm node, ltm snat, ltm snatpool, ltm snat-translation, " +
	"ltm nat, cm traffic-group, cm device, cm device-group, auth partition, sys db, " +
	"sys global-settings, ltm global-settings connection")

// builder makes a Config of the stanzas of all files.
type builder struct {
	index
	criteria criteria
	Config
	domains map[string]int // by VLAN
	pools   map[string]Pool
	// SNAT translations without a stanza of their own, by name
	translated map[string]bool
}

// build makes the Config, when all files were scanned.
func (b *builder) build() Config {
	list := b.fill()
	b.domains, b.pools, b.translated = map[string]int{}, map[string]Pool{}, map[string]bool{}
	b.criteria = criteria{index: &b.index, known: map[string]destinations{}}
	b.profiles = b.newProfiles()
	virtuals, addresses := 0, 0
	for _, o := range list {
		switch o.kind {
		case "net route-domain":
			b.routeDomain(o)
		case "ltm pool":
			b.pool(o)
		case "ltm virtual", "gtm listener":
			virtuals++
		case "ltm virtual-address":
			addresses++
		}
	}
	b.Virtuals = slices.Grow(b.Virtuals, virtuals)
	b.Addresses = slices.Grow(b.Addresses, addresses)
	for _, o := range list {
		if build := builders[o.kind]; build != nil {
			build(b, o)
		}
	}
	b.markHA()
	b.Stanzas = b.count()
	b.Warnings = b.warnings
	return b.Config
}

// builders are the kinds that become values of their own, without those that
// such values refer to: build makes route domains and pools first.
var builders = map[string]func(*builder, *object){
	"ltm virtual": (*builder).virtual, "gtm listener": (*builder).virtual,
	"ltm virtual-address": (*builder).virtualAddress,
	"net vlan":            (*builder).vlan, "net vlan-group": (*builder).vlan,
	"net tunnels tunnel": (*builder).vlan, "net self": (*builder).self,
	"net route": (*builder).route, "ltm snat": (*builder).snat, "ltm nat": (*builder).nat,
	"ltm snatpool": (*builder).snatPool, "ltm snat-translation": (*builder).snatTranslation,
	"cm device": (*builder).device, "cm device-group": (*builder).deviceGroup,
	"sys db": (*builder).global, "sys global-settings": (*builder).hostname,
	"ltm global-settings connection": (*builder).global,
}

// ParseAutoLastHop reads a setting as tmsh, the db variable or the user writes
// it.
func ParseAutoLastHop(s string) (AutoLastHop, bool) {
	switch strings.ToLower(s) {
	case "default":
		return Default, true
	case "enable", "enabled":
		return Enabled, true
	case "disable", "disabled":
		return Disabled, true
	}
	return "", false
}

// setting records the global setting.
func (b *builder) setting(value, origin string) {
	v, ok := ParseAutoLastHop(value)
	if !ok || v == Default {
		b.say("bad-value", LastHopVariable, origin, "is neither enable nor disable",
			"`tmsh list sys db "+LastHopVariable+"` shows it")
		return
	}
	if old := b.Global; old.Value != "" && old.Value != v {
		b.say("conflict", LastHopVariable, origin,
			fmt.Sprintf("%s here, %s in %s: this one counts", v, old.Value, old.Origin),
			"give files of one BIG-IP, all of the same time")
	}
	b.Global = Setting{v, origin}
}

// global reads the db variable, which tmsh also shows as a global setting.
func (b *builder) global(o *object) {
	switch value := o.get("auto-last-hop"); {
	case o.kind == "sys db" && strings.ToLower(o.name) == LastHopVariable:
		b.setting(cmp.Or(o.get("value"), o.get("default-value")), o.origin())
	case o.kind != "sys db" && value != "":
		b.setting(value, o.origin())
	}
}

func (b *builder) hostname(o *object) {
	name, old := o.get("hostname"), b.Hostname
	if name != "" && old != "" && name != old {
		b.warn(o, "conflict", "its hostname is "+label(name)+", but another file has "+
			label(old), "give files of one BIG-IP: each unit of a pair has its own "+
			"self IPs")
	}
	b.Hostname = cmp.Or(name, old)
}
