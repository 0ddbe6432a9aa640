// Package capture is a host as one JSON document, for planning on another
// machine.
//
// The document holds what a plan depends on: links, addresses, routes, rules
// and neighbours in the shape that `ip -N -j -d` prints, what NGINX listens on,
// and what the plan says about the machine besides its routing. Decode and
// Encode take values and return values; they read and write no file.
//
// A document may come from anywhere. Each error names the file and the key that
// it is about.
package capture

import (
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"lasthop/routing"
)

// Version is the version of the document; it goes up only when a key goes or
// changes meaning.
const Version = 1

// Capture is a host as one document. Links, addresses, routes, rules and
// neighbours have the shape that `ip -N -j -d` prints, so that a shell can make
// one (IPv6 rules get a family, which `ip` leaves out):
//
//	rules() { ip -N -j -d "$@" rule | sed 's/^\[//; s/\]$//'; }
//	printf '{"version":1,"host":"%s","time":"%s","kernel":"%s","links":%s,"addrs":%s,"routes":%s,"neighs":%s,"rules":[%s,%s]}\n' \
//	  "$(hostname)" "$(date -u +%FT%TZ)" "$(uname -r)" "$(ip -N -j -d link)" "$(ip -N -j -d addr)" \
//	  "$(ip -N -j -d route show table all)" "$(ip -N -j -d neigh)" \
//	  "$(rules)" "$(rules -6 | sed 's/{"priority"/{"family":"inet6","priority"/g')"
//
// It holds no configuration text and no secrets. About NGINX it holds where
// NGINX listens and binds, and the files of these directives with their
// checksums. It also holds whatever a plan says of the machine besides its
// routing, so that the plan is the same elsewhere.
type Capture struct {
	// The host.
	Version int
	Time    time.Time
	Host    routing.Host

	// NGINX's configuration. nil if the document does not contain it, empty
	// if there is none
	Listens []routing.Listener
	Binds   []routing.Bind // the same
	// the files that say so; nil if the document does not name them
	Inputs   []Input
	Warnings []routing.Finding // findings from reading them

	// What the host's user decided.
	Flags    map[string][]string // that the host was read with: of flagNames
	Settings map[string][]string // flags and lasthop.yaml together, as flags
	Numbers  routing.Numbers     // zero if they are missing: the default ones

	// What a plan says of the machine besides its routing.
	DNATs        []routing.DNAT
	Sessions     []routing.SessionGroup
	NetworkFiles map[string]string // by link, as host.NetworkFiles returns them
}

// Input is a file that the listeners come from.
type Input struct {
	File   string `json:"file" need:"always"`
	SHA256 string `json:"sha256" need:"always"`
	// named by the user or by NGINX, not included by another file
	Main bool `json:"main,omitempty" is:"yes"`
}

// flagNames and settingNames are the flags that may have been given, and those
// that settings can be written as.
var (
	settingNames = []string{"address", "direct", "fail-closed", "gateway", "return"}
	flagNames    = append([]string{"config", "listen", "netns", "nginx-conf"}, settingNames...)
)

// Error names the part of a capture that is wrong.
type Error struct {
	File, Key string
	Err       error
}

func (e *Error) Error() string { return fmt.Sprintf("%s: %s: %v", e.File, e.Key, e.Err) }

func (e *Error) Unwrap() error { return e.Err }

// Hint returns how to get a good capture.
func (e *Error) Hint() string { return "capture that host again: lasthop capture > host.json" }

// Decode reads a capture; name is the file's, for errors, which are of type
// *Error. It depends on its arguments alone. Unknown or missing top-level keys
// are errors. It ignores unknown keys within iproute2's objects, except in
// rules: there it keeps them as Opaque, since an unknown selector changes what
// a rule means.
func Decode(name string, data []byte) (Capture, error) {
	r := newReader(data)
	var d document
	r.document(&d)
	c := d.capture(r)
	if r.err != nil {
		r.err.File = name
		return Capture{}, r.err
	}
	return c, nil
}

// document is the JSON form of a capture.
type document struct {
	hostDoc
	nginxDoc
	userDoc
	machineDoc
}

type hostDoc struct {
	Version scalar            `json:"version" is:"version" need:"always"`
	Host    string            `json:"host" need:"always"`
	Time    time.Time         `json:"time" is:"time" need:"always"`
	Kernel  string            `json:"kernel" need:"always"`
	Links   []linkDoc         `json:"links" need:"always"`
	Addrs   []addrDoc         `json:"addrs" need:"always"`
	Routes  []routeDoc        `json:"routes" need:"always"`
	Rules   []members         `json:"rules" is:"any" need:"always"`
	Neighs  []neighDoc        `json:"neighs,omitzero"`
	Leases  []leaseDoc        `json:"leases,omitzero"`
	Sysctls map[string]string `json:"sysctls,omitempty" is:"text"`
	Grouped []groupDoc        `json:"grouped,omitzero"`
	// of the families that the host forwards
	Rulesets []rulesetDoc `json:"rulesets,omitzero"`
	lastHopDoc
}

// lastHopDoc is what the mode last-hop has in addition to routes and rules.
type lastHopDoc struct {
	Filters []filterDoc `json:"filters,omitzero"`
	Wanted  []wantedDoc `json:"wanted,omitzero"`
	LastHop supportDoc  `json:"last_hop,omitzero"`
}

type nginxDoc struct {
	Listens  []listenDoc  `json:"listens,omitzero"`
	Binds    []bindDoc    `json:"binds,omitzero"`
	Inputs   []Input      `json:"inputs,omitzero"`
	Warnings []warningDoc `json:"warnings,omitzero"`
}

type userDoc struct {
	Flags    map[string][]string `json:"flags,omitempty"`
	Settings map[string][]string `json:"settings,omitempty"`
	Numbers  numbersDoc          `json:"numbers,omitzero"`
}

type machineDoc struct {
	DNATs    []dnatDoc         `json:"dnats,omitzero"`
	Sessions []sessionsDoc     `json:"sessions,omitzero"`
	Networkd map[string]string `json:"networkd,omitempty" is:"text"`
}

func (d document) capture(r *reader) Capture {
	return Capture{Version: Version, Time: d.Time.UTC(),
		Host: routing.Host{Name: d.Host, Kernel: d.Kernel,
			Links:  all(r, "links", d.Links, linkDoc.link),
			Addrs:  slices.Concat(all(r, "addrs", d.Addrs, addrDoc.addrs)...),
			Routes: all(r, "routes", d.Routes, routeDoc.route),
			Rules:  all(r, "rules", d.Rules, members.rule),
			Neighs: all(r, "neighs", d.Neighs, neighDoc.neigh),
			Leases: mapped(d.Leases, leaseDoc.lease), Sysctls: d.Sysctls,
			Grouped:  mapped(d.Grouped, groupDoc.group),
			Rulesets: mapped(d.Rulesets, rulesetDoc.ruleset),
			Filters:  mapped(d.Filters, filterDoc.filter),
			Wanted:   mapped(d.Wanted, wantedDoc.wanted),
			LastHop:  d.LastHop.support()},
		Listens:  all(r, "listens", d.Listens, listenDoc.listener),
		Binds:    mapped(d.Binds, bindDoc.bind),
		Inputs:   d.Inputs,
		Warnings: mapped(d.Warnings, warningDoc.finding),
		Flags:    r.flags("flags", d.Flags, flagNames),
		Settings: r.flags("settings", d.Settings, settingNames),
		DNATs:    all(r, "dnats", d.DNATs, dnatDoc.dnat),
		Sessions: mapped(d.Sessions, sessionsDoc.group),
		Numbers:  d.Numbers.numbers(r), NetworkFiles: d.Networkd}
}

// Encode writes a capture, indented, with a newline at its end.
func Encode(c Capture) ([]byte, error) {
	h := c.Host
	data, err := json.MarshalIndent(document{
		hostDoc{
			Version: number(Version), Host: h.Name, Time: c.Time, Kernel: h.Kernel,
			Links: present(mapped(h.Links, linkDocOf)), Addrs: addrDocsOf(h.Addrs),
			Routes: present(mapped(h.Routes, routeDocOf)),
			Rules:  present(mapped(h.Rules, ruleDocOf)),
			Neighs: mapped(h.Neighs, neighDocOf), Leases: mapped(h.Leases, leaseDocOf),
			Sysctls: h.Sysctls, Grouped: mapped(h.Grouped, groupDocOf),
			Rulesets: mapped(h.Rulesets, rulesetDocOf),
			lastHopDoc: lastHopDoc{mapped(h.Filters, filterDocOf),
				mapped(h.Wanted, wantedDocOf), supportDocOf(h.LastHop)},
		},
		nginxDoc{
			mapped(c.Listens, listenDocOf), mapped(c.Binds, bindDocOf), c.Inputs,
			mapped(c.Warnings, warningDocOf),
		},
		userDoc{c.Flags, c.Settings, numbersDocOf(c.Numbers)},
		machineDoc{mapped(c.DNATs, dnatDocOf), mapped(c.Sessions, sessionsDocOf),
			c.NetworkFiles},
	}, "", " ")
	if err != nil {
		return nil, fmt.Errorf("encode capture: %w", err)
	}
	return append(data, '\n'), nil
}

// present turns a missing list into an empty one, for keys that must be there.
func present[T any](list []T) []T {
	if list == nil {
		return []T{}
	}
	return list
}

// mapped keeps a missing list apart from an empty one.
func mapped[T, U any](list []T, f func(T) U) []U {
	if list == nil {
		return nil
	}
	out := make([]U, 0, len(list))
	for _, x := range list {
		out = append(out, f(x))
	}
	return out
}
