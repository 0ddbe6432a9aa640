package host

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"time"

	"lasthop/routing"
)

// CaptureVersion is the version of the document; it goes up only when a key goes or changes meaning.
const CaptureVersion = 1

// Capture is a host as one document, to plan for it elsewhere. Links, addresses, routes, rules and neighbours have the shape that
// `ip -N -j -d` prints, so that a shell can make one (IPv6 rules get a family, which `ip` leaves out):
//
//	rules() { ip -N -j -d "$@" rule | sed 's/^\[//; s/\]$//'; }
//	printf '{"version":1,"host":"%s","time":"%s","kernel":"%s","links":%s,"addrs":%s,"routes":%s,"neighs":%s,"rules":[%s,%s]}\n' \
//	  "$(hostname)" "$(date -u +%FT%TZ)" "$(uname -r)" "$(ip -N -j -d link)" "$(ip -N -j -d addr)" \
//	  "$(ip -N -j -d route show table all)" "$(ip -N -j -d neigh)" \
//	  "$(rules)" "$(rules -6 | sed 's/{"priority"/{"family":"inet6","priority"/g')"
//
// It holds no configuration text and no secrets: of NGINX only where it listens and binds.
type Capture struct {
	Version int
	Time    time.Time
	Host    routing.Host
	Listens []routing.Listener // nil if the document says nothing of them, empty if there are none
	Binds   []routing.Bind     // the same
}

// CaptureError says which part of a capture is wrong.
type CaptureError struct {
	File, Key string
	Err       error
}

func (e *CaptureError) Error() string { return fmt.Sprintf("%s: %s: %v", e.File, e.Key, e.Err) }

func (e *CaptureError) Unwrap() error { return e.Err }

// Hint says how to get a good one.
func (e *CaptureError) Hint() string { return "make it anew on that host: lasthop capture > host.json" }

type captureDoc struct {
	Version int             `json:"version"`
	Host    string          `json:"host"`
	Time    time.Time       `json:"time"`
	Kernel  string          `json:"kernel"`
	Links   []linkDoc       `json:"links"`
	Addrs   []addrDoc       `json:"addrs"`
	Routes  []routeDoc      `json:"routes"`
	Rules   []ruleDoc       `json:"rules"`
	Neighs  []neighDoc      `json:"neighs,omitzero"`
	Leases  []leaseDoc      `json:"leases,omitzero"`
	Sysctls map[string]text `json:"sysctls,omitempty"`
	Listens []listenDoc     `json:"listens,omitzero"`
	Binds   []bindDoc       `json:"binds,omitzero"`
}

// captureKeys are the top-level keys, and whether each must be there.
var captureKeys = map[string]bool{"version": true, "host": true, "time": true, "kernel": true, "links": true, "addrs": true,
	"routes": true, "rules": true, "neighs": false, "leases": false, "sysctls": false, "listens": false, "binds": false}

// ipLists are the lists in which `ip -j` prints an empty object for what its filter leaves out.
var ipLists = []string{"links", "addrs", "routes", "rules", "neighs"}

// DecodeCapture reads a capture; name is the file's, for errors, which are of type *CaptureError. Unknown top-level keys and
// missing ones are errors. Within iproute2's objects unknown keys are passed over, but for rules: there they are kept as
// Opaque, since an unknown selector changes what a rule means.
func DecodeCapture(name string, data []byte) (Capture, error) {
	var parts map[string]json.RawMessage
	if err := json.Unmarshal(data, &parts); err != nil {
		return Capture{}, &CaptureError{name, "document", position(data, err)}
	}
	var doc captureDoc
	for _, key := range sortedKeys(parts) {
		if _, ok := captureKeys[key]; !ok {
			return Capture{}, &CaptureError{name, key, fmt.Errorf("unknown key")}
		}
	}
	for _, key := range sortedKeys(captureKeys) {
		if _, ok := parts[key]; !ok && captureKeys[key] {
			return Capture{}, &CaptureError{name, key, fmt.Errorf("missing key")}
		}
	}
	for _, key := range sortedKeys(parts) {
		if at, err := doc.decode(key, parts[key]); err != nil {
			return Capture{}, &CaptureError{name, at, err}
		}
	}
	c, at, err := doc.capture()
	if err != nil {
		return Capture{}, &CaptureError{name, at, err}
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

// position adds the line to a syntax error.
func position(data []byte, err error) error {
	if syntax, ok := err.(*json.SyntaxError); ok {
		line := 1 + bytes.Count(data[:min(int(syntax.Offset), len(data))], []byte("\n"))
		return fmt.Errorf("line %d: %w", line, err)
	}
	return err
}

// decode reads one top-level key and returns the element where an error is.
func (d *captureDoc) decode(key string, data json.RawMessage) (string, error) {
	switch key {
	case "version":
		if err := json.Unmarshal(data, &d.Version); err != nil || d.Version != CaptureVersion {
			return key, fmt.Errorf("want %d, got %s", CaptureVersion, data)
		}
	case "host":
		return key, json.Unmarshal(data, &d.Host)
	case "time":
		return key, json.Unmarshal(data, &d.Time)
	case "kernel":
		return key, json.Unmarshal(data, &d.Kernel)
	case "links":
		return decodeList(key, data, &d.Links)
	case "addrs":
		return decodeList(key, data, &d.Addrs)
	case "routes":
		return decodeList(key, data, &d.Routes)
	case "rules":
		return decodeList(key, data, &d.Rules)
	case "neighs":
		return decodeList(key, data, &d.Neighs)
	case "leases":
		return decodeList(key, data, &d.Leases)
	case "sysctls":
		return key, json.Unmarshal(data, &d.Sysctls)
	case "listens":
		return decodeList(key, data, &d.Listens)
	case "binds":
		return decodeList(key, data, &d.Binds)
	}
	return key, nil
}

func decodeList[T any](key string, data json.RawMessage, list *[]T) (string, error) {
	var parts []json.RawMessage
	if err := json.Unmarshal(data, &parts); err != nil {
		return key, err
	}
	if parts == nil {
		return key, fmt.Errorf("null, want a list")
	}
	*list = make([]T, 0, len(parts))
	for i, part := range parts {
		var x T
		if string(part) == "{}" && slices.Contains(ipLists, key) {
			continue
		}
		if err := json.Unmarshal(part, &x); err != nil {
			return typeError(fmt.Sprintf("%s[%d]", key, i), err)
		}
		*list = append(*list, x)
	}
	return key, nil
}

// typeError adds the path inside an element to its place, and says what was expected in JSON's words instead of Go's.
func typeError(at string, err error) (string, error) {
	var wrong *json.UnmarshalTypeError
	if !errors.As(err, &wrong) {
		return at, err
	}
	if wrong.Field != "" {
		at += "." + wrong.Field
	}
	want := map[reflect.Kind]string{reflect.String: "a string", reflect.Slice: "a list", reflect.Struct: "an object", reflect.Map: "an object",
		reflect.Bool: "true or false"}[wrong.Type.Kind()]
	if want == "" {
		want = "a number"
	}
	return at, fmt.Errorf("want %s, got a JSON %s", want, wrong.Value)
}

// capture turns the document into values and returns the element where an error is.
func (d *captureDoc) capture() (Capture, string, error) {
	c := Capture{Version: d.Version, Time: d.Time}
	h := &c.Host
	h.Name, h.Kernel = d.Host, d.Kernel
	at, err := each("links", d.Links, func(x linkDoc) error { return appendTo(&h.Links, x.link) })
	if err == nil {
		at, err = each("addrs", d.Addrs, func(x addrDoc) error { return x.addTo(h) })
	}
	if err == nil {
		at, err = each("routes", d.Routes, func(x routeDoc) error { return appendTo(&h.Routes, x.route) })
	}
	if err == nil {
		at, err = each("rules", d.Rules, func(x ruleDoc) error { return appendTo(&h.Rules, x.rule) })
	}
	if err == nil {
		at, err = each("neighs", d.Neighs, func(x neighDoc) error { return appendTo(&h.Neighs, x.neigh) })
	}
	if err == nil {
		at, err = each("leases", d.Leases, func(x leaseDoc) error { return appendTo(&h.Leases, x.lease) })
	}
	if err == nil {
		at, err = each("listens", d.Listens, func(x listenDoc) error { return appendTo(&c.Listens, x.listener) })
	}
	if err == nil {
		at, err = each("binds", d.Binds, func(x bindDoc) error { return appendTo(&c.Binds, x.bind) })
	}
	if d.Listens != nil && c.Listens == nil {
		c.Listens = []routing.Listener{}
	}
	if d.Binds != nil && c.Binds == nil {
		c.Binds = []routing.Bind{}
	}
	if d.Sysctls != nil {
		h.Sysctls = map[string]string{}
	}
	for k, v := range d.Sysctls {
		h.Sysctls[k] = string(v)
	}
	return c, at, err
}

func each[T any](key string, list []T, f func(T) error) (string, error) {
	for i, x := range list {
		if err := f(x); err != nil {
			return fmt.Sprintf("%s[%d]", key, i), err
		}
	}
	return key, nil
}

func appendTo[T any](list *[]T, make func() (T, error)) error {
	x, err := make()
	if err == nil {
		*list = append(*list, x)
	}
	return err
}

// EncodeCapture writes a capture, indented, with a newline at its end.
func EncodeCapture(c Capture) ([]byte, error) {
	h := c.Host
	doc := captureDoc{Version: CaptureVersion, Host: h.Name, Time: c.Time, Kernel: h.Kernel,
		Links: present(mapped(h.Links, linkDocOf)), Addrs: addrDocsOf(h), Routes: present(mapped(h.Routes, routeDocOf)), Rules: present(mapped(h.Rules, ruleDocOf)),
		Neighs: mapped(h.Neighs, neighDocOf), Leases: mapped(h.Leases, leaseDocOf), Listens: mapped(c.Listens, listenDocOf), Binds: mapped(c.Binds, bindDocOf)}
	if len(h.Sysctls) > 0 {
		doc.Sysctls = map[string]text{}
	}
	for k, v := range h.Sysctls {
		doc.Sysctls[k] = text(v)
	}
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

// text is a string, or a number that is kept as its digits: `ip -N` prints numbers both ways.
type text string

func (t *text) UnmarshalJSON(b []byte) error {
	var s string
	if err := json.Unmarshal(b, &s); err == nil {
		*t = text(s)
		return nil
	}
	var n json.Number
	if err := json.Unmarshal(b, &n); err != nil {
		return fmt.Errorf("want a number or a string, got %.40s", b)
	}
	*t = text(n) // "" for null
	return nil
}

// flag is a key whose presence says yes; `ip` gives it null or true.
type flag bool

func (f *flag) UnmarshalJSON(b []byte) error {
	switch string(b) {
	case "null", "true":
		*f = true
	case "false":
		*f = false
	default:
		return fmt.Errorf("want true, false or null, got %.40s", b)
	}
	return nil
}

func parseAddr(s string) (netip.Addr, error) {
	a, err := netip.ParseAddr(strings.TrimSpace(s))
	if err != nil {
		return a, err
	}
	return a.Unmap(), nil
}
