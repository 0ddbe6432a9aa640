// Package capture is a host as one JSON document, to plan for it elsewhere.
//
// The document holds what a plan depends on: links, addresses, routes, rules
// and neighbours in the shape that `ip -N -j -d` prints, what NGINX listens on,
// and what the plan says about the machine besides its routing. Decode and
// Encode take values and give values; they read and write no file.
//
// A document may come from anywhere. Each error names the file and the key that
// it is about.
package capture

import (
	"encoding/json"
	"fmt"
	"io"
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
// It holds no configuration text and no secrets: of NGINX where it listens and
// binds, and which files say so, by their sums. Whatever a plan says of the
// machine beside its routing is in it too, so that the plan is the same
// elsewhere.
type Capture struct {
	// The host.
	Version int
	Time    time.Time
	Host    routing.Host

	// NGINX's configuration.
	// nil if the document says nothing of them, empty if there are none
	Listens []routing.Listener
	Binds   []routing.Bind // the same
	// the files that say so; nil if the document says nothing of them
	Inputs   []Input
	Warnings []routing.Finding // what was noticed when they were read

	// What the host's user decided.
	Flags    map[string][]string // that the host was looked at with: of flagNames
	Settings map[string][]string // flags and lasthop.yaml together, as flags
	Numbers  routing.Numbers     // zero if they are not said: the default ones

	// What a plan says of the machine beside its routing.
	DNATs        []routing.DNAT
	Sessions     []routing.SessionGroup
	NetworkFiles map[string]string // by link, as host.NetworkFiles returns them
}

// Input is a file that the listeners come from.
type Input struct {
	File   string `json:"file"`
	SHA256 string `json:"sha256"`
	// named by the user or by NGINX, not included by another
	Main bool `json:"main,omitempty"`
}

// flagNames and settingNames are the flags that may have been given, and those
// that settings can be written as.
var (
	settingNames = []string{"address", "direct", "fail-closed", "gateway", "return"}
	flagNames    = append([]string{"config", "listen", "netns", "nginx-conf"}, settingNames...)
)

// Error says which part of a capture is wrong.
type Error struct {
	File, Key string
	Err       error
}

func (e *Error) Error() string { return fmt.Sprintf("%s: %s: %v", e.File, e.Key, e.Err) }

func (e *Error) Unwrap() error { return e.Err }

// Hint says how to get a good capture.
func (e *Error) Hint() string { return "make it anew on that host: lasthop capture > host.json" }

// Decode reads a capture; name is the file's, for errors, which are of type
// *Error. It depends on its arguments alone. Unknown top-level keys and missing
// ones are errors. Within iproute2's objects unknown keys are passed over, but
// for rules: there they are kept as Opaque, since an unknown selector changes
// what a rule means.
func Decode(name string, data []byte) (Capture, error) {
	r := newReader(data)
	c := r.capture()
	if r.err != nil {
		r.err.File = name
		return Capture{}, r.err
	}
	return c, nil
}

// requiredKeys are the top-level keys that a capture must have.
var requiredKeys = []string{"addrs", "host", "kernel", "links", "routes", "rules",
	"time", "version"}

func (r *reader) capture() (c Capture) {
	h := &c.Host
	top := r.object(map[string]func(){
		"version": func() { c.Version = version(r, r.next()) },
		"host":    func() { h.Name = str(r, r.next()) },
		"time":    func() { c.Time = stamp(r, r.next()) },
		"kernel":  func() { h.Kernel = str(r, r.next()) },
		"links":   func() { h.Links = listOf(r, readLink) },
		"addrs": func() {
			r.list(func() { h.Addrs = append(h.Addrs, readAddrs(r)...) })
		},
		"routes":   func() { h.Routes = listOf(r, readRoute) },
		"rules":    func() { h.Rules = listOf(r, readRule) },
		"neighs":   func() { h.Neighs = listOf(r, readNeigh) },
		"leases":   func() { h.Leases = listOf(r, readLease) },
		"sysctls":  func() { h.Sysctls = readTexts(r) },
		"listens":  func() { c.Listens = listOf(r, readListener) },
		"binds":    func() { c.Binds = listOf(r, readBind) },
		"inputs":   func() { c.Inputs = listOf(r, readInput) },
		"warnings": func() { c.Warnings = listOf(r, readWarning) },
		"flags":    func() { c.Flags = readFlags(r, flagNames) },
		"settings": func() { c.Settings = readFlags(r, settingNames) },
		"numbers":  func() { c.Numbers = readNumbers(r) },
		"dnats":    func() { c.DNATs = listOf(r, readDNAT) },
		"sessions": func() { c.Sessions = listOf(r, readSessions) },
		"networkd": func() { c.NetworkFiles = readTexts(r) },
	})
	for _, m := range top.members {
		r.failIn(m.key, "unknown key")
	}
	for _, key := range requiredKeys {
		if !slices.Contains(top.nested, key) {
			r.failIn(key, "missing key")
		}
	}
	after := r.dec.InputOffset()
	if _, err := r.dec.ReadToken(); err != io.EOF {
		r.fail("%s: more after its end", r.position(after))
	}
	return c
}

func version(r *reader, s scalar) int {
	v := int(number(0, 1<<30)(r, s))
	if v != Version {
		r.fail("want %d, not %s", Version, s)
	}
	return v
}

func stamp(r *reader, s scalar) time.Time {
	t, err := time.Parse(time.RFC3339, str(r, s))
	if err != nil {
		r.want("a time like 2026-01-02T03:04:05Z", s)
	}
	return t.UTC()
}

// document is a capture as it is written.
type document struct {
	hostDoc
	nginxDoc
	userDoc
	besideDoc
}

type hostDoc struct {
	Version int               `json:"version"`
	Host    string            `json:"host"`
	Time    time.Time         `json:"time"`
	Kernel  string            `json:"kernel"`
	Links   []linkDoc         `json:"links"`
	Addrs   []addrDoc         `json:"addrs"`
	Routes  []routeDoc        `json:"routes"`
	Rules   []ruleDoc         `json:"rules"`
	Neighs  []neighDoc        `json:"neighs,omitzero"`
	Leases  []leaseDoc        `json:"leases,omitzero"`
	Sysctls map[string]string `json:"sysctls,omitempty"`
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
	Numbers  *numbersDoc         `json:"numbers,omitempty"`
}

type besideDoc struct {
	DNATs    []dnatDoc              `json:"dnats,omitzero"`
	Sessions []routing.SessionGroup `json:"sessions,omitzero"`
	Networkd map[string]string      `json:"networkd,omitempty"`
}

// Encode writes a capture, indented, with a newline at its end.
func Encode(c Capture) ([]byte, error) {
	h := c.Host
	data, err := json.MarshalIndent(document{
		hostDoc{
			Version: Version, Host: h.Name, Time: c.Time, Kernel: h.Kernel,
			Links: present(mapped(h.Links, linkDocOf)), Addrs: addrDocsOf(h.Addrs),
			Routes: present(mapped(h.Routes, routeDocOf)),
			Rules:  present(mapped(h.Rules, ruleDocOf)),
			Neighs: mapped(h.Neighs, neighDocOf), Leases: mapped(h.Leases, leaseDocOf),
			Sysctls: h.Sysctls,
		},
		nginxDoc{
			mapped(c.Listens, listenDocOf), mapped(c.Binds, bindDocOf), c.Inputs,
			mapped(c.Warnings, warningDocOf),
		},
		userDoc{c.Flags, c.Settings, numbersDocOf(c.Numbers)},
		besideDoc{mapped(c.DNATs, dnatDocOf), c.Sessions, c.NetworkFiles},
	}, "", " ")
	if err != nil {
		return nil, fmt.Errorf("encode capture: %w", err)
	}
	return append(data, '\n'), nil
}

// present makes an empty list of none, for keys that must be there.
func present[T any](list []T) []T {
	if list == nil {
		return []T{}
	}
	return list
}

// mapped keeps none apart from empty.
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
