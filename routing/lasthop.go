package routing

import (
	"cmp"
	"fmt"
	"net/netip"
	"strings"
)

// This file describes what the mode last-hop has in the kernel in addition to
// routes and rules: a filter on each link that requests come in by, which
// learns the router of each connection, and the listeners that it learns for.

// LastHopPrefix begins the names of lasthop's programs: "lasthop/TAG".
const LastHopPrefix = "lasthop/"

// kindBPF is the kind of lasthop's filters, as tc names it.
const kindBPF = "bpf"

// Filter is a filter at the clsact ingress of a link, or a tcx program there
// (Kind "tcx", Pref 0), which the kernel runs in front of the filters.
// lasthop's filter is of kind "bpf" and has a name that begins with
// LastHopPrefix.
type Filter struct {
	Link   string
	Pref   uint16 // tc's preference: the kernel asks the lowest first
	Handle uint32 // tells filters of one preference apart
	Kind   string // as tc names it: "bpf", "matchall", "u32"; "tcx"
	Name   string // of the program; "" where the kind has none
}

// Owned reports whether the filter is lasthop's.
func (f Filter) Owned() bool {
	return f.Kind == kindBPF && strings.HasPrefix(f.Name, LastHopPrefix)
}

// String returns "dev eth1 ingress pref 1 bpf direct-action name lasthop/TAG".
func (f Filter) String() string {
	w := words{"dev", f.Link, "ingress"}
	w.add(f.Pref != 0, "pref", fmt.Sprint(f.Pref))
	w.add(true, f.Kind)
	w.add(f.Owned(), "direct-action")
	w.add(f.Name != "", "name", f.Name)
	return strings.Join(w, " ")
}

// deletion is the arguments of `tc filter del` that delete this filter and no
// other.
func (f Filter) deletion() string {
	return fmt.Sprintf("dev %s ingress pref %d handle %#x %s", f.Link, f.Pref, f.Handle, f.Kind)
}

// place is where a filter stands: a filter that is put there replaces it.
func (f Filter) place() Filter { return Filter{Link: f.Link, Pref: f.Pref, Handle: f.Handle} }

// Placed returns lasthop's filter at its place on a link that may have filters
// already: the place of a lasthop filter with the same maps, or else the lowest
// preference that is free. A lasthop filter with other maps goes on learning
// until all routes use the new maps: it is not replaced but deleted later.
func (f Filter) Placed(installed []Filter) Filter {
	taken := map[uint16]bool{0: true}
	var same []Filter
	for _, x := range installed {
		switch {
		case x.Link != f.Link:
		case x.Owned() && x.maps() == f.maps():
			same = append(same, x)
		default:
			taken[x.Pref] = true
		}
	}
	for _, x := range same {
		if !taken[x.Pref] {
			f.Pref, f.Handle = x.Pref, x.Handle
			return f
		}
	}
	for f.Pref, f.Handle = 1, 1; taken[f.Pref] && f.Pref < 1<<16-1; f.Pref++ {
	}
	return f
}

// maps returns the number of the maps of lasthop's program: a tag ends with it.
func (f Filter) maps() string {
	_, number, _ := strings.Cut(f.Name, ".")
	return number
}

func compareFilter(a, b Filter) int {
	return cmp.Or(cmp.Compare(a.Link, b.Link), cmp.Compare(a.Pref, b.Pref),
		cmp.Compare(a.Handle, b.Handle))
}

// Wanted is an entry of the map of listeners: lasthop's programs learn only for
// these entries. Port 0 stands for each port without a listener: with TCP for
// resets, with ICMP for echo replies.
type Wanted struct {
	Addr      netip.Addr
	Port      uint16
	Transport Transport // TCP, UDP or ICMP
}

// String returns "tcp 10.0.1.100:80", "tcp 10.0.1.100" for each port without a
// listener, or "icmp 10.0.1.100".
func (w Wanted) String() string {
	if w.Port == 0 {
		return string(w.Transport) + " " + w.Addr.String()
	}
	return string(w.Transport) + " " + netip.AddrPortFrom(w.Addr, w.Port).String()
}

func compareWanted(a, b Wanted) int {
	return cmp.Or(a.Addr.Compare(b.Addr), cmp.Compare(a.Port, b.Port),
		cmp.Compare(a.Transport, b.Transport))
}

// LastHopSupport says whether this kernel and user support the mode last-hop.
type LastHopSupport struct {
	// of the programs and maps that routes and filters will name
	Tag string
	// why the mode is not available: "kernel 5.10.194 has CVE-2023-53338",
	// "no CAP_BPF"; else ""
	Missing string
	// false if a capture does not say, or the user lacks the rights to see
	// it
	Known bool
}
