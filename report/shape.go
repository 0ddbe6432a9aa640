package report

import (
	"cmp"
	"maps"
	"slices"
	"strings"

	"lasthop/routing"
)

// Trait is one thing that hosts of a fleet may have in common.
type Trait struct {
	Name  string `json:"name"`  // "mode on eth1"
	Value string `json:"value"` // "strict"
}

func (t Trait) String() string { return t.Name + ": " + t.Value }

// Difference is a trait in which a host differs from its group.
type Difference struct {
	Name  string `json:"name"`
	Is    string `json:"is"`    // "none" if the host lacks it
	Usual string `json:"usual"` // of the group; "none" if the group lacks it
}

func (d Difference) String() string { return d.Name + ": " + d.Is + " (group: " + d.Usual + ")" }

// aspect orders traits by what they are about.
type aspect int

const (
	ofStatus aspect = iota
	ofMode
	ofGateway
	ofSetting
	ofReplies
	ofFinding
	ofChanges
	ofListeners
	ofProgram
)

type traitKey struct {
	aspect
	name string
}

// shape is what hosts have in common that do the same at addresses of their
// own: no address of a host is part of it, and no digest, table or number of
// prefixes.
type shape map[traitKey]string

// traitValues are the values that each trait has on one host.
type traitValues map[traitKey]map[string]bool

func (v traitValues) add(a aspect, name, value string) {
	key := traitKey{a, name}
	if v[key] == nil {
		v[key] = map[string]bool{}
	}
	v[key][value] = true
}

// shapeOf returns the shape of a plan.
func shapeOf(p *planDoc) shape {
	v, listeners := traitValues{}, map[traitKey]int{}
	v.add(ofProgram, "lasthop", p.Lasthop)
	for _, l := range p.Listeners {
		name := l.portName() + l.on() + ", " + familyOf(l.Address)
		listeners[traitKey{ofListeners, name}]++
		v.listener(l)
	}
	for _, x := range p.Paths {
		source := x.Source
		if n := len(x.Gateways); n > 1 {
			source += ", " + count(n, "router")
		}
		v.add(ofGateway, "gateway on "+x.Interface+", "+x.Family, source)
	}
	for _, prefix := range p.Direct {
		v.add(ofSetting, "direct", prefix)
	}
	for _, link := range p.FailClosed {
		v.add(ofSetting, "fail_closed", link)
	}
	for _, f := range p.Findings {
		v.add(ofFinding, "finding "+string(f.Code), string(f.Severity))
	}
	changes := "none to make"
	if len(p.Changes) > 0 {
		changes = "to make"
	}
	v.add(ofChanges, "changes", changes)
	s := shape{}
	for key, set := range v {
		s[key] = strings.Join(slices.Sorted(maps.Keys(set)), ", ")
	}
	for key, n := range listeners {
		s[key] = count(n, "listener")
	}
	return s
}

// listener adds what is decided of a listener.
func (v traitValues) listener(l listenerDoc) {
	status := l.Status
	if l.Reason != "" {
		status += " (" + l.Reason + ")"
	}
	v.add(ofStatus, "status"+l.on(), status)
	if l.Mode != "" {
		v.add(ofMode, "mode"+l.on(), l.Mode)
	}
	if l.Before != nil && l.After != nil {
		v.add(ofReplies, "replies"+l.on(), l.Before.out()+" -> "+l.After.out())
	}
}

// on is the interface of a listener: " on eth1".
func (l listenerDoc) on() string {
	none := "no interface"
	if l.Status == string(routing.LocalOnly) {
		none = "this host"
	}
	return " on " + cmp.Or(l.Interface, none)
}

func familyOf(addr string) string {
	if strings.Contains(addr, ":") {
		return "IPv6"
	}
	return "IPv4"
}

// out is where a way leaves, without its addresses.
func (w *wayDoc) out() string {
	switch {
	case w.LastHop:
		return "per connection"
	case w.Type != "":
		word, _, _ := strings.Cut(w.Type, " ")
		return word
	}
	return w.Interface
}

func compareKeys(a, b traitKey) int {
	return cmp.Or(cmp.Compare(a.aspect, b.aspect), cmp.Compare(a.name, b.name))
}

func (s shape) keys() []traitKey { return slices.SortedFunc(maps.Keys(s), compareKeys) }

func (s shape) traits() []Trait {
	return mapped(s.keys(), func(k traitKey) Trait { return Trait{k.name, s[k]} })
}

// differences returns the traits in which s differs from what is usual.
func (s shape) differences(usual shape) []Difference {
	both := maps.Clone(usual)
	maps.Copy(both, s)
	out := []Difference{}
	for _, k := range both.keys() {
		if s[k] != usual[k] {
			out = append(out, Difference{k.name, cmp.Or(s[k], "none"),
				cmp.Or(usual[k], "none")})
		}
	}
	return out
}

// usualShapes returns the shapes that make a group, the most frequent first:
// each that two hosts and a tenth of all have. If there is none, the values
// that most hosts have are the one group.
func usualShapes(all []shape) []shape {
	type class struct {
		shape
		n int
	}
	var classes []class
	for _, s := range all {
		i := slices.IndexFunc(classes, func(c class) bool { return maps.Equal(c.shape, s) })
		if i < 0 {
			i, classes = len(classes), append(classes, class{s, 0})
		}
		classes[i].n++
	}
	slices.SortStableFunc(classes, func(a, b class) int { return b.n - a.n })
	var usual []shape
	for _, c := range classes {
		if c.n >= 2 && c.n*10 >= len(all) {
			usual = append(usual, c.shape)
		}
	}
	if usual == nil && len(all) > 0 {
		usual = []shape{typical(all)}
	}
	return usual
}

// typical returns for each trait the value that most hosts have. Of two that
// are equally frequent it takes the smaller one, and of none and a value the
// value.
func typical(all []shape) shape {
	out := shape{}
	n := map[traitKey]map[string]int{}
	for _, s := range all {
		for k, v := range s {
			if n[k] == nil {
				n[k] = map[string]int{}
			}
			n[k][v]++
		}
	}
	for k, values := range n {
		having := 0
		for _, v := range slices.Sorted(maps.Keys(values)) {
			having += values[v]
			if values[v] > values[out[k]] {
				out[k] = v
			}
		}
		if len(all)-having > values[out[k]] {
			delete(out, k)
		}
	}
	return out
}

// nearest returns the number of the group, from 1, that a shape differs from
// least, and in what.
func nearest(usual []shape, s shape) (group int, least []Difference) {
	for i, u := range usual {
		if d := s.differences(u); i == 0 || len(d) < len(least) {
			group, least = i+1, d
		}
	}
	return group, least
}
