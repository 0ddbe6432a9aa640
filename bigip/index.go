package bigip

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"lasthop/routing"
)

// object is a stanza with its properties by name.
type object struct {
	*stanza
	partition string
	full      string
	props     []property
	replaced  bool // by a later one
	warned    bool // of what it calls
}

// property is an item of a stanza.
type property struct {
	name  string
	value tokens
}

// property finds a property. Of two with one name the later counts. A stanza
// has a dozen: a map takes longer to make than it saves.
func (o *object) property(name string) (value tokens, ok bool) {
	for i := len(o.props) - 1; i >= 0; i-- {
		if o.props[i].name == name {
			return o.props[i].value, true
		}
	}
	return nil, false
}

// value returns that of a property; nil if there is none.
func (o *object) value(name string) tokens { v, _ := o.property(name); return v }

// get returns the first word of a property; "" if there is none.
func (o *object) get(key string) string { return o.value(key).first() }

// has reports whether a flag is set.
func (o *object) has(key string) bool { _, ok := o.property(key); return ok }

// number returns a property that is a number; 0 if it is not.
func (o *object) number(key string) int {
	n, err := strconv.ParseUint(o.get(key), 10, 31)
	if err != nil {
		return 0
	}
	return int(n)
}

// list returns the entries of a property's block.
func (o *object) list(key string) tokens {
	inside, _ := o.value(key).block()
	return inside
}

// index is the stanzas of all files by name, and their warnings.
type index struct {
	stanzas  []*stanza
	objects  map[key]*object
	ids      map[string]int    // of the default route domain, by partition
	profiles map[string]string // types of those that count for a Service, by name
	warnings []Warning
	props    []property // of the object that is made, with room for those of the next
}

// key is the kind of a stanza, or its family, and its full name.
type key struct{ kind, name string }

// fill gives every stanza of a modelled kind its full name. Of two with one
// name the later counts, unless it was not read whole. It returns the objects
// that count.
func (x *index) fill() []*object {
	x.objects, x.ids = make(map[key]*object, len(x.stanzas)), map[string]int{}
	var list []*object
	for _, s := range x.stanzas {
		if !modelled[s.kind] && s.kind != "ltm rule" || s.problem == unknownModule {
			continue
		}
		o := x.newObject(s)
		at := key{family(s.kind), o.full}
		if old := x.objects[at]; old != nil && s.name != "" {
			if old.problem == "" && s.problem != "" {
				continue
			}
			old.replaced = true
			if old.problem == "" {
				old.problem = duplicate
				x.warn(o, duplicate, "replaces the one of "+old.origin(),
					"give each file once")
			}
		}
		x.objects[at] = o
		list = append(list, o)
	}
	list = slices.DeleteFunc(list, func(o *object) bool { return o.replaced })
	for _, o := range list {
		if o.kind == "auth partition" {
			x.ids[o.name] = o.number("default-route-domain")
		}
	}
	return list
}

// family returns the kind whose names a kind shares: VLANs, groups and tunnels
// share one set of names.
func family(kind string) string {
	if kind == "net vlan-group" || kind == "net tunnels tunnel" {
		return "net vlan"
	}
	return kind
}

func (x *index) newObject(s *stanza) *object {
	o := &object{stanza: s}
	if x.props = x.props[len(x.props):]; cap(x.props) < 16 {
		x.props = make([]property, 0, 512)
	}
	for key, value := range s.body.properties() {
		x.props = append(x.props, property{key.text, value})
	}
	o.props = slices.Clip(x.props)
	o.partition = cmp.Or(o.get("partition"), "Common")
	o.full = full(s.name, o.partition)
	o.partition = partitionOf(o.full, o.partition)
	return o
}

// partitionOf returns the partition in a path, other if it has none.
func partitionOf(path, other string) string {
	_, rest, _ := strings.Cut(path, "/")
	if partition, _, ok := strings.Cut(rest, "/"); ok {
		return partition
	}
	return other
}

// full returns the full path of a name.
func full(name, partition string) string {
	if name == "" || name[0] == '/' {
		return name
	}
	return "/" + partition + "/" + name
}

// resolve returns the full name of what o refers to by name, of one of the
// kinds: in o's partition, else in Common.
func (x *index) resolve(o *object, name string, kinds ...string) (string, *object) {
	names := []string{full(name, o.partition), full(name, "Common")}
	for _, name := range slices.Compact(names) {
		for _, kind := range kinds {
			if found := x.objects[key{kind, name}]; found != nil {
				return found.full, found
			}
		}
	}
	return names[0], nil
}

// reference returns the full name of what a property of o refers to; "" if
// there is none.
func (x *index) reference(o *object, property, kind string) string {
	name, _ := x.resolve(o, o.get(property), kind)
	return name
}

func (x *index) warn(o *object, code, message, hint string) {
	x.say(code, o.subject(), o.origin(), message, hint)
}

func (x *index) say(code, subject, origin, message, hint string) {
	x.warnings = append(x.warnings, Warning{code, subject, message, hint, origin})
}

// count accounts for every stanza. A duplicate has its warning already: that of
// the stanza that replaces it.
func (x *index) count() (c Count) {
	for _, s := range x.stanzas {
		c.Found++
		switch s.problem {
		case "":
			c.Parsed++
			continue
		case duplicate:
		default:
			x.warnings = append(x.warnings, s.warning())
		}
		c.Named++
	}
	return c
}

// warning returns what is wrong with a stanza as a whole.
func (s *stanza) warning() Warning {
	w := Warning{Code: s.problem, Subject: s.subject(), Origin: s.origin()}
	switch s.problem {
	case unknownModule:
		w.Message, w.Hint = "tmsh has no such module",
			"migrate ignores this stanza; correct its first word if it matters"
	case unclosed:
		w.Message = fmt.Sprintf("its closing brace or quote is missing: the next "+
			"stanza begins in line %d", s.stopped)
		w.Hint = "settings of it may be missing; correct it, or take the file from the " +
			"BIG-IP again"
	default:
		w.Message, w.Hint = "its end is missing", "take the whole file from the BIG-IP"
	}
	return w
}

// domain returns the route domain of an address in a partition.
func (x *index) domain(partition string, id int) int {
	if id != noDomain {
		return id
	}
	return x.ids[partition]
}

// lastHop reads a property of Auto-Last-Hop.
func (x *index) lastHop(o *object) AutoLastHop {
	setting, ok := ParseAutoLastHop(cmp.Or(o.get("auto-lasthop"), "default"))
	if !ok {
		x.warn(o, "bad-value",
			"auto-lasthop is not one of default, enabled, disabled: migrate assumes "+
				"default", "check its auto-lasthop on the BIG-IP")
		return Default
	}
	return setting
}

// scope reads on which VLANs an object serves. Without a flag the list holds
// the VLANs where it does not serve.
func (x *index) scope(o *object) Scope {
	var names []string
	for _, name := range o.value("vlans").names() {
		name, vlan := x.resolve(o, name, "net vlan")
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

// ports reads a port and warns of an unknown service.
func (x *index) ports(o *object, text string) ([]routing.PortRange, string) {
	ports, service := parsePort(text)
	if service != "" {
		service = label(service)
		x.warn(o, "unknown-service", "its port is an unknown service name",
			"look up its number on the BIG-IP")
	}
	return ports, service
}
