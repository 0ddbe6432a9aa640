package bigip

import (
	"cmp"
	"fmt"
	"strings"
)

// LastHopVariable is the name of the db variable that Config.Global is.
const LastHopVariable = "connection.autolasthop"

const managementVariable = "mgmt.autolasthop"

// modelled are the kinds of stanzas whose bodies are looked at; of the others
// nothing is kept.
var modelled = map[string]bool{
	"ltm virtual": true, "ltm virtual-address": true, "ltm traffic-matching-criteria": true,
	"gtm listener": true, "net address-list": true,
	"security shared-objects address-list": true, "security firewall address-list": true,
	"net port-list": true, "security shared-objects port-list": true,
	"security firewall port-list": true, "net vlan": true, "net vlan-group": true,
	"net tunnels tunnel": true, "net self": true, "net route": true, "net route-domain": true,
	"ltm pool": true, "ltm node": true, "ltm snat": true, "ltm nat": true,
	"cm traffic-group": true, "auth partition": true, "sys db": true,
	"sys global-settings": true, "ltm global-settings connection": true,
	"ltm global-settings general": true,
}

// builder makes a Config of the stanzas of all files.
type builder struct {
	index
	criteria criteria
	config   Config
	domains  map[string]int // by VLAN
	pools    map[string]Pool
}

// build makes the Config, when all files were scanned.
func (b *builder) build() Config {
	list := b.fill()
	b.domains, b.pools = map[string]int{}, map[string]Pool{}
	b.criteria = criteria{index: &b.index, known: map[string]destinations{}}
	for _, o := range list {
		switch o.kind {
		case "net route-domain":
			b.routeDomain(o)
		case "ltm pool":
			b.pool(o)
		}
	}
	for _, o := range list {
		if build := builders[o.kind]; build != nil {
			build(b, o)
		}
	}
	b.config.Stanzas = b.count()
	b.config.Warnings = b.warnings
	return b.config
}

// builders are the kinds that lead to values of their own. Those that others
// refer to come before them, in build.
var builders = map[string]func(*builder, *object){
	"ltm virtual": (*builder).virtual, "gtm listener": (*builder).virtual,
	"ltm virtual-address": (*builder).virtualAddress,
	"net vlan":            (*builder).vlan, "net vlan-group": (*builder).vlan,
	"net tunnels tunnel": (*builder).vlan, "net self": (*builder).self,
	"net route": (*builder).route, "ltm snat": (*builder).snat, "ltm nat": (*builder).nat,
	"cm traffic-group": (*builder).trafficGroup, "sys db": (*builder).global,
	"sys global-settings":            (*builder).hostname,
	"ltm global-settings connection": (*builder).global,
	"ltm global-settings general":    (*builder).global,
}

// ParseAutoLastHop reads a setting as tmsh, the db variable or a person writes
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

// setting takes a global setting.
func (b *builder) setting(variable, value, origin string) {
	to := &b.config.Global
	if variable == managementVariable {
		to = &b.config.Management
	}
	v, ok := ParseAutoLastHop(value)
	if !ok || v == Default {
		b.warnings = append(b.warnings, Warning{Code: "bad-value",
			Subject: variable, Origin: origin,
			Message: "is neither enable nor disable",
			Hint:    "`tmsh list sys db " + variable + "` shows it"})
		return
	}
	if to.Value != "" && to.Value != v {
		b.warnings = append(b.warnings, Warning{Code: "conflict",
			Subject: variable, Origin: origin,
			Message: fmt.Sprintf("%s here, %s in %s: this one counts", v, to.Value,
				to.Origin),
			Hint: "give files of one BIG-IP, of one time"})
	}
	*to = Setting{v, origin}
}

// global reads a db variable, which tmsh also shows as a global setting.
func (b *builder) global(o *object) {
	variable, value := strings.ToLower(o.name), cmp.Or(o.get("value"), o.get("default-value"))
	switch o.kind {
	case "ltm global-settings connection":
		variable, value = LastHopVariable, o.get("auto-last-hop")
	case "ltm global-settings general":
		variable, value = managementVariable, o.get("mgmt-auto-lasthop")
	}
	known := variable == LastHopVariable || variable == managementVariable
	if known && (value != "" || o.kind == "sys db") {
		b.setting(variable, value, o.origin())
	}
}

func (b *builder) hostname(o *object) {
	name := o.get("hostname")
	if old := b.config.Hostname; name != "" && old != "" && name != old {
		b.warn(o, "conflict", "its hostname is "+label(name)+", that of another file "+
			label(old), "give files of one BIG-IP: a pair has each its own self IPs")
	}
	if name != "" {
		b.config.Hostname = name
	}
}
