package bigip

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

const (
	lastHopVariable    = "connection.autolasthop"
	managementVariable = "mgmt.autolasthop"
)

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

// object is a stanza with its properties by name.
type object struct {
	*stanza
	partition string
	full      string
	props     map[string]tokens
	replaced  bool // by a later one
}

// get is the first word of a property; "" if there is none.
func (o *object) get(key string) string { return o.props[key].first() }

// has says whether a flag is set.
func (o *object) has(key string) bool { _, ok := o.props[key]; return ok }

// number is a property that is one; 0 if it is not.
func (o *object) number(key string) int {
	n, err := strconv.ParseUint(o.get(key), 10, 31)
	if err != nil {
		return 0
	}
	return int(n)
}

// list are the entries of a property's block.
func (o *object) list(key string) tokens {
	inside, _ := o.props[key].block()
	return inside
}

// builder makes a Config of the stanzas of all files.
type builder struct {
	config  Config
	stanzas []*stanza
	objects map[string]map[string]*object // by kind and full name
	ids     map[string]int                // of the default route domain, by partition
	domains map[string]int                // by VLAN
	pools   map[string]Pool
	numbers map[string]int          // of route domains, by name
	where   map[string]destinations // by traffic-matching-criteria
	entries int                     // of lists, so far
	full    bool                    // more than maxEntries of them
}

// build makes the Config, when all files were scanned.
func (b *builder) build() Config {
	list := b.index()
	b.ids, b.domains, b.numbers = map[string]int{}, map[string]int{}, map[string]int{}
	b.pools, b.where = map[string]Pool{}, map[string]destinations{}
	for _, o := range list {
		if o.kind == "auth partition" {
			b.ids[o.name] = o.number("default-route-domain")
		}
	}
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
	b.count()
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
	"cm traffic-group": (*builder).trafficGroup, "sys db": (*builder).variable,
	"sys global-settings":            (*builder).hostname,
	"ltm global-settings connection": (*builder).connection,
	"ltm global-settings general":    (*builder).general,
}

// index gives every stanza of a modelled kind its full name. Of two of a name
// the later counts, unless it was not read whole.
func (b *builder) index() []*object {
	b.objects = map[string]map[string]*object{}
	var list []*object
	for _, s := range b.stanzas {
		if !modelled[s.kind] && s.kind != "ltm rule" || s.problem == unknownModule {
			continue
		}
		o := newObject(s)
		kind := b.objects[family(s.kind)]
		if kind == nil {
			kind = map[string]*object{}
			b.objects[family(s.kind)] = kind
		}
		if old := kind[o.full]; old != nil && s.name != "" {
			if old.problem == "" && s.problem != "" {
				continue
			}
			old.replaced = true
			if old.problem == "" {
				old.problem = duplicate
				b.warn(o, duplicate, "replaces the one of "+old.origin(),
					"give each file once")
			}
		}
		kind[o.full] = o
		list = append(list, o)
	}
	return slices.DeleteFunc(list, func(o *object) bool { return o.replaced })
}

// family is the kind whose names a kind shares: VLANs, groups and tunnels are
// told apart by name alone.
func family(kind string) string {
	if kind == "net vlan-group" || kind == "net tunnels tunnel" {
		return "net vlan"
	}
	return kind
}

func newObject(s *stanza) *object {
	o := &object{stanza: s}
	if len(s.body) > 0 {
		o.props = map[string]tokens{}
	}
	for key, value := range s.body.properties() {
		o.props[key.text] = value
	}
	o.partition = "Common"
	if p := o.get("partition"); p != "" {
		o.partition = p
	}
	o.full = full(s.name, o.partition)
	if path := strings.Split(o.full, "/"); len(path) > 2 {
		o.partition = path[1]
	}
	return o
}

// full is the full path of a name.
func full(name, partition string) string {
	if name == "" || name[0] == '/' {
		return name
	}
	return "/" + partition + "/" + name
}

// resolve returns the full name of what o refers to by name, of one of the
// kinds: in o's partition, else in Common.
func (b *builder) resolve(o *object, name string, kinds ...string) (string, *object) {
	for _, partition := range []string{o.partition, "Common"} {
		for _, kind := range kinds {
			if found := b.objects[kind][full(name, partition)]; found != nil {
				return found.full, found
			}
		}
	}
	return full(name, o.partition), nil
}

func (b *builder) warn(o *object, code, message, hint string) {
	b.config.Warnings = append(b.config.Warnings, Warning{Code: code, Subject: o.subject(),
		Message: message, Hint: hint, Origin: o.origin()})
}

// count accounts for every stanza. A duplicate has its warning already: that of
// the stanza which replaces it.
func (b *builder) count() {
	c := &b.config.Stanzas
	for _, s := range b.stanzas {
		c.Found++
		switch s.problem {
		case "":
			c.Parsed++
			continue
		case duplicate:
		default:
			b.config.Warnings = append(b.config.Warnings, s.warning())
		}
		c.Named++
	}
}

// warning says what is wrong with a stanza as such.
func (s *stanza) warning() Warning {
	w := Warning{Code: s.problem, Subject: s.subject(), Origin: s.origin()}
	switch s.problem {
	case unknownModule:
		w.Message, w.Hint = "tmsh has no such module",
			"nothing of this stanza is used; mend its first word if it matters"
	case unclosed:
		w.Message = fmt.Sprintf("its closing brace or quote is missing: the next "+
			"stanza begins in line %d", s.stopped)
		w.Hint = "settings of it may be missing; mend it, or take the " +
			"file from the BIG-IP again"
	default:
		w.Message, w.Hint = "its end is missing", "take the whole file from the BIG-IP"
	}
	return w
}

// domain is the route domain of an address in o's partition.
func (b *builder) domain(o *object, id int) int { return b.domainIn(o.partition, id) }

func (b *builder) domainIn(partition string, id int) int {
	if id != noDomain {
		return id
	}
	return b.ids[partition]
}

// lastHop reads a property of Auto-Last-Hop.
func (b *builder) lastHop(o *object) AutoLastHop {
	value := o.get("auto-lasthop")
	if value == "" {
		return Default
	}
	setting, ok := ParseAutoLastHop(value)
	if !ok {
		b.warn(o, "bad-value",
			"auto-lasthop has none of its values: default, enabled, disabled",
			"default is taken")
		return Default
	}
	return setting
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
		b.config.Warnings = append(b.config.Warnings, Warning{Code: "bad-value",
			Subject: variable, Origin: origin,
			Message: "is neither enable nor disable",
			Hint:    "`tmsh list sys db " + variable + "` shows it"})
		return
	}
	if to.Value != "" && to.Value != v {
		b.config.Warnings = append(b.config.Warnings, Warning{Code: "conflict",
			Subject: variable, Origin: origin,
			Message: fmt.Sprintf("%s here, %s in %s: this one counts", v, to.Value,
				to.Origin),
			Hint: "give files of one BIG-IP, of one time"})
	}
	*to = Setting{v, origin}
}

func (b *builder) variable(o *object) {
	name := strings.ToLower(o.name)
	value := o.get("value")
	if value == "" {
		value = o.get("default-value")
	}
	if name == lastHopVariable || name == managementVariable {
		b.setting(name, value, o.origin())
	}
}

// connection is the same variable, as tmsh shows it among its global settings.
func (b *builder) connection(o *object) {
	if value := o.get("auto-last-hop"); value != "" {
		b.setting(lastHopVariable, value, o.origin())
	}
}

func (b *builder) general(o *object) {
	if value := o.get("mgmt-auto-lasthop"); value != "" {
		b.setting(managementVariable, value, o.origin())
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
