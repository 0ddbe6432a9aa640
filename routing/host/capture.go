package host

import (
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"lasthop/routing"
)

// CaptureVersion is the version of the document; it goes up only when a key
// goes or changes meaning.
const CaptureVersion = 1

// Capture is a host as one document, to plan for it elsewhere. Links,
// addresses, routes, rules and neighbours have the shape that `ip -N -j -d`
// prints, so that a shell can make one (IPv6 rules get a family, which `ip`
// leaves out):
//
//	rules() { ip -N -j -d "$@" rule | sed 's/^\[//; s/\]$//'; }
//	printf '{"version":1,"host":"%s","time":"%s","kernel":"%s",' \
//	  "$(hostname)" "$(date -u +%FT%TZ)" "$(uname -r)"
//	printf '"links":%s,"addrs":%s,"routes":%s,"neighs":%s,' \
//	  "$(ip -N -j -d link)" "$(ip -N -j -d addr)" \
//	  "$(ip -N -j -d route show table all)" "$(ip -N -j -d neigh)"
//	printf '"rules":[%s,%s]}\n' "$(rules)" "$(rules -6 |
//	  sed 's/{"priority"/{"family":"inet6","priority"/g')"
//
// It holds no configuration text and no secrets: of NGINX where it listens and
// binds, and which files say so, by their sums. Whatever a plan says of the
// machine beside its routing is in it too, so that the plan is the same
// elsewhere.
type Capture struct {
	Version int
	Time    time.Time
	Host    routing.Host
	// nil if the document says nothing of them, empty if there are none
	Listens []routing.Listener
	Binds   []routing.Bind // the same
	// the files that say so; nil if the document says nothing of them
	Inputs   []Input
	Warnings []routing.Finding   // what was noticed when they were read
	Flags    map[string][]string // that the host was looked at with: of captureFlags
	// what the host's user decided, flags and lasthop.yaml together, as
	// flags
	Settings     map[string][]string
	Numbers      routing.Numbers // zero if they are not said: the default ones
	DNATs        []DNAT
	Sessions     []SessionGroup
	NetworkFiles map[string]string // see NetworkFiles
}

// Input is a file that the listeners come from.
type Input struct {
	File   string `json:"file"`
	SHA256 string `json:"sha256"`
	// named by the user or by NGINX, not included by another
	Main bool `json:"main,omitempty"`
}

// captureFlags and captureSettings are the flags that may have been given, and
// those that settings can be written as.
var (
	captureSettings = []string{"address", "direct", "fail-closed", "gateway", "return"}
	captureFlags    = append([]string{"config", "listen", "netns", "nginx-conf"},
		captureSettings...)
)

// CaptureError says which part of a capture is wrong.
type CaptureError struct {
	File, Key string
	Err       error
}

func (e *CaptureError) Error() string { return fmt.Sprintf("%s: %s: %v", e.File, e.Key, e.Err) }

func (e *CaptureError) Unwrap() error { return e.Err }

// Hint says how to get a good one.
func (e *CaptureError) Hint() string {
	return "make it anew on that host: lasthop capture > host.json"
}

type captureDoc struct {
	Version  int                 `json:"version"`
	Host     string              `json:"host"`
	Time     time.Time           `json:"time"`
	Kernel   string              `json:"kernel"`
	Links    []linkDoc           `json:"links"`
	Addrs    []addrDoc           `json:"addrs"`
	Routes   []routeDoc          `json:"routes"`
	Rules    []ruleDoc           `json:"rules"`
	Neighs   []neighDoc          `json:"neighs,omitzero"`
	Leases   []leaseDoc          `json:"leases,omitzero"`
	Sysctls  map[string]string   `json:"sysctls,omitempty"`
	Listens  []listenDoc         `json:"listens,omitzero"`
	Binds    []bindDoc           `json:"binds,omitzero"`
	Inputs   []Input             `json:"inputs,omitzero"`
	Warnings []warningDoc        `json:"warnings,omitzero"`
	Flags    map[string][]string `json:"flags,omitempty"`
	Settings map[string][]string `json:"settings,omitempty"`
	Numbers  *numbersDoc         `json:"numbers,omitempty"`
	DNATs    []dnatDoc           `json:"dnats,omitzero"`
	Sessions []SessionGroup      `json:"sessions,omitzero"`
	Networkd map[string]string   `json:"networkd,omitempty"`
}

// DecodeCapture reads a capture; name is the file's, for errors, which are of
// type *CaptureError. It depends on its arguments alone. Unknown top-level keys
// and missing ones are errors. Within iproute2's objects unknown keys are
// passed over, but for rules: there they are kept as Opaque, since an unknown
// selector changes what a rule means.
func DecodeCapture(name string, data []byte) (Capture, error) {
	r := newReader(data)
	c := r.capture()
	if err := r.top.err; err != nil {
		err.File = name
		return Capture{}, err
	}
	return c, nil
}

func sortedKeys[T any](m map[string]T) []string {
	var keys []string
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}

// EncodeCapture writes a capture, indented, with a newline at its end.
func EncodeCapture(c Capture) ([]byte, error) {
	h := c.Host
	doc := captureDoc{Version: CaptureVersion, Host: h.Name, Time: c.Time, Kernel: h.Kernel,
		Links: present(mapped(h.Links, linkDocOf)), Addrs: addrDocsOf(h),
		Routes: present(mapped(h.Routes, routeDocOf)),
		Rules:  present(mapped(h.Rules, ruleDocOf)),
		Neighs: mapped(h.Neighs, neighDocOf), Leases: mapped(h.Leases, leaseDocOf),
		Sysctls: h.Sysctls, Listens: mapped(c.Listens, listenDocOf),
		Binds: mapped(c.Binds, bindDocOf), Inputs: c.Inputs,
		Warnings: mapped(c.Warnings, warningDocOf), Flags: c.Flags, Settings: c.Settings,
		Numbers: numbersDocOf(c.Numbers), DNATs: mapped(c.DNATs, dnatDocOf),
		Sessions: c.Sessions, Networkd: c.NetworkFiles}
	data, err := json.MarshalIndent(doc, "", " ")
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

// text is a number that `ip -N` prints as a string.
type text string

// flag is a key whose presence says yes.
type flag bool
