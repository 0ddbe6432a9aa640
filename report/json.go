package report

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"iter"
	"net/netip"
	"slices"
	"strings"
	"time"
	"unicode/utf16"
	"unicode/utf8"

	"lasthop/routing"
)

// DocumentVersion is the version of every JSON document; it goes up only when a
// key goes or changes meaning.
const DocumentVersion = 1

type headDoc struct {
	Version int     `json:"version"`
	Kind    string  `json:"kind"`
	Lasthop string  `json:"lasthop"`
	Host    string  `json:"host,omitempty"`
	Time    string  `json:"time,omitempty"`
	Kernel  string  `json:"kernel,omitempty"`
	Inputs  []Input `json:"inputs"`
	Digest  string  `json:"digest,omitempty"`
	Summary any     `json:"summary"`
}

func (h Head) doc(kind, digest string, summary any) headDoc {
	return headDoc{DocumentVersion, kind, h.Lasthop, h.Host, h.Time.UTC().Format(time.RFC3339),
		h.Kernel, list(h.Inputs), digest, summary}
}

type planDoc struct {
	headDoc
	Listeners []listenerDoc     `json:"listeners"`
	Paths     []pathDoc         `json:"paths"`
	Moves     []moveDoc         `json:"moves"`
	Routes    []routeDoc        `json:"routes"`
	Rules     []ruleDoc         `json:"rules"`
	Changes   []changeDoc       `json:"changes"`
	Findings  []routing.Finding `json:"findings"`

	// settings that no listener or path shows
	Direct     []string `json:"direct"`      // prefixes
	FailClosed []string `json:"fail_closed"` // interfaces; "*" is every one

	Proof *proofDoc `json:"proof,omitempty"` // of plan --prove
	Since *Since    `json:"since,omitempty"` // of plan --diff
}

type applyDoc struct {
	planDoc
	Done   []changeDoc  `json:"done"`
	Writes int          `json:"writes"`
	Checks []checkedDoc `json:"checks"`
	Undo   string       `json:"undo,omitempty"`
}

type checkDoc struct {
	headDoc
	Offline  bool              `json:"offline,omitempty"`
	Checks   []checkedDoc      `json:"checks"`
	Changes  []changeDoc       `json:"changes"` // what `apply` would do
	Findings []routing.Finding `json:"findings"`
}

type clearDoc struct {
	headDoc
	DryRun  bool        `json:"dry_run,omitempty"`
	Changes []changeDoc `json:"changes"`
	Done    []changeDoc `json:"done"`
}

type listenerDoc struct {
	Address   string   `json:"address"`
	Port      uint16   `json:"port"`
	LastPort  uint16   `json:"last_port,omitempty"` // of a range
	Transport string   `json:"transport"`
	Context   string   `json:"context"`
	Listen    string   `json:"listen"`
	Origins   []string `json:"origins"`
	Servers   []string `json:"servers"`

	leftOutDoc
	decidedDoc

	Before *wayDoc  `json:"before,omitempty"`
	After  *wayDoc  `json:"after,omitempty"`
	Seen   *seenDoc `json:"seen,omitempty"` // what packets showed
}

// decidedDoc is what is decided of a listener.
type decidedDoc struct {
	Interface string `json:"interface,omitempty"`
	Status    string `json:"status"`
	Reason    string `json:"reason,omitempty"`
	Mode      string `json:"mode,omitempty"` // absent if no gateway is involved
}

// leftOutDoc is what the lists of a listener leave out.
type leftOutDoc struct {
	MoreOrigins int `json:"more_origins,omitempty"`
	MoreServers int `json:"more_servers,omitempty"`
}

// seenDoc is the verdict and outcome of packets.
type seenDoc struct {
	Verdict routing.WayVerdict `json:"verdict"`
	Outcome routing.WayOutcome `json:"outcome"`
}

type checkedDoc struct {
	listenerDoc
	Verdict string  `json:"verdict"`
	Client  string  `json:"client,omitempty"`
	Now     *wayDoc `json:"now,omitempty"`
	Want    string  `json:"want,omitempty"`
	// clients of other classes that are answered wrongly
	Wrong []wrongDoc `json:"wrong,omitempty"`
}

type wrongDoc struct {
	routing.Client
	Now  *wayDoc `json:"now"`
	Want *wayDoc `json:"want"`
}

type wayDoc struct {
	Type      string `json:"type,omitempty"` // absent for a unicast route
	Interface string `json:"interface,omitempty"`
	Gateway   string `json:"gateway,omitempty"`
	Table     uint32 `json:"table,omitempty"`
	More      string `json:"more,omitempty"` // further next hops
	// to the router that the connection came from, if that is known
	LastHop bool `json:"last_hop,omitempty"`
}

type pathDoc struct {
	Interface string   `json:"interface"`
	Family    string   `json:"family"`
	Gateways  []string `json:"gateways"`
	Source    string   `json:"gateway_source"`
	Table     uint32   `json:"table,omitempty"`
	Prefixes  []string `json:"prefixes"`
	LastHop   bool     `json:"last_hop,omitempty"` // the mode, for each connection
}

// moveDoc is a class of clients whose replies leave another way.
type moveDoc struct {
	Listeners []string `json:"listeners"` // prefixes
	Interface string   `json:"interface"`
	Class     string   `json:"class"`
	Clients   []string `json:"clients"` // prefixes
	Before    *wayDoc  `json:"before"`
	After     *wayDoc  `json:"after"`
}

type routeDoc struct {
	Family      string `json:"family"`
	Table       uint32 `json:"table"`
	Destination string `json:"destination"`
	Text        string `json:"text"`
}

type ruleDoc struct {
	Family   string `json:"family"`
	Priority int    `json:"priority"`
	Text     string `json:"text"`
}

type changeDoc struct {
	Op     string `json:"op"`     // add, append, replace, delete, set, unset
	Object string `json:"object"` // rule, route, link, filter, listener
	Text   string `json:"text"`   // the command
}

// JSON writes the plan as one document of kind "plan".
func (p Plan) JSON(w io.Writer) error { return encode(w, p.doc("plan", p.summary())) }

// JSON writes the result as one document of kind "apply": a plan with what was
// done.
func (a Apply) JSON(w io.Writer) error {
	return encode(w, applyDoc{a.doc("apply", a.summary()), mapped(a.Done, changeDocOf),
		a.Writes, mapped(a.Checks, checkedDocOf), a.Undo})
}

// JSON writes the result as one document of kind "check".
func (c Check) JSON(w io.Writer) error {
	return encode(w, checkDoc{c.Head.doc("check", c.Digest, c.summary()), c.Offline,
		mapped(c.Checks, checkedWith(c.Seen)),
		mapped(c.Diff.Ops(), changeDocOf), list(c.Plan.Findings)})
}

// JSON writes the result as one document of kind "clear".
func (c Clear) JSON(w io.Writer) error {
	summary := map[string]int{"changes": len(c.Diff.Ops()), "done": len(c.Done)}
	return encode(w, clearDoc{c.Head.doc("clear", "", summary), c.DryRun,
		mapped(c.Diff.Ops(), changeDocOf), mapped(c.Done, changeDocOf)})
}

// JSON writes the version as one document of kind "version".
func (v Version) JSON(w io.Writer) error {
	return encode(w, struct {
		Version int    `json:"version"`
		Kind    string `json:"kind"`
		versionDoc
	}{DocumentVersion, "version", versionDoc(v)})
}

// versionDoc is Version without its methods, to be embedded.
type versionDoc Version

func (p Plan) doc(kind string, summary any) planDoc {
	return planDoc{p.Head.doc(kind, p.Digest, summary),
		mapped(p.Plan.Outcomes, plannedWith(p.Seen)),
		mapped(p.Plan.Paths, pathDocOf), mapped(p.Plan.Moves, moveDocOf),
		mapped(p.Plan.State.Routes, routeDocOf), mapped(p.Plan.State.Rules, ruleDocOf),
		mapped(p.Diff.Ops(), changeDocOf), list(p.Plan.Findings),
		mapped(p.Policy.Direct, netip.Prefix.String), list(p.Policy.FailClosed),
		p.Proof.doc(), p.Since}
}

func (p Plan) summary() map[string]int {
	s := map[string]int{"listeners": len(p.Plan.Outcomes), "changes": len(p.Diff.Ops()),
		"findings": len(p.Plan.Findings)}
	for _, o := range p.Plan.Outcomes {
		s[string(o.Status)]++
	}
	return s
}

func (c Check) summary() map[string]int {
	s := map[string]int{"listeners": len(c.Checks), "findings": len(c.Plan.Findings)}
	for _, x := range c.Checks {
		s[string(x.Verdict)]++
	}
	return s
}

func encode(w io.Writer, doc any) error { return encoder(w, "").Encode(doc) }

// encoder writes documents, each in one piece. All lines except the first begin
// with prefix.
func encoder(w io.Writer, prefix string) *json.Encoder {
	e := json.NewEncoder(visible{w})
	e.SetEscapeHTML(false)
	e.SetIndent(prefix, "  ")
	return e
}

// encodeRows writes a document whose list under the key is empty, with the rows
// in this list. Each row is encoded alone: of 100,000 the text takes 100 MB.
func encodeRows[T any](w io.Writer, doc any, key string, rows iter.Seq[T]) error {
	var b bytes.Buffer
	if err := encode(&b, doc); err != nil {
		return err
	}
	const indent = "\n    "
	head, rest, _ := strings.Cut(b.String(), "\n  \""+key+"\": []")
	out, e, before := bufio.NewWriter(w), encoder(&b, indent[1:]), indent
	fmt.Fprintf(out, "%s\n  %q: [", head, key) // Flush returns the error
	for row := range rows {
		b.Reset()
		if err := e.Encode(row); err != nil {
			return err
		}
		out.WriteString(before)
		out.Write(bytes.TrimSuffix(b.Bytes(), []byte("\n")))
		before = "," + indent
	}
	if before != indent {
		out.WriteString("\n  ")
	}
	fmt.Fprintf(out, "]%s", rest)
	return out.Flush()
}

// visible writes each document after visibly.
type visible struct{ w io.Writer }

func (v visible) Write(doc []byte) (int, error) {
	_, err := v.w.Write(visibly(doc))
	return len(doc), err
}

// visibly replaces characters that a terminal or an editor might not show, or
// show at another place, with JSON's escapes. In a document they occur only in
// strings, and mean the same.
func visibly(doc []byte) []byte {
	if !slices.ContainsFunc(doc, func(c byte) bool { return c >= 0x7f }) {
		return doc
	}
	var out []byte
	for _, r := range string(doc) {
		switch {
		case r < 0x7f || safe(r):
			out = utf8.AppendRune(out, r)
		case r < 0x10000:
			out = fmt.Appendf(out, `\u%04x`, r)
		default:
			high, low := utf16.EncodeRune(r)
			out = fmt.Appendf(out, `\u%04x\u%04x`, high, low)
		}
	}
	return out
}

func listenerDocOf(o routing.Outcome) listenerDoc {
	d := listenerDoc{o.Addr.String(), o.Ports.First, 0, string(o.Transport), o.Context,
		o.Listen, list(o.Origins), list(o.Servers),
		leftOutDoc{o.MoreOrigins, o.MoreServers},
		decidedDoc{o.Link, string(o.Status), string(o.Reason), string(o.Mode)},
		wayDocOf(o.Before), wayDocOf(o.After), nil}
	if o.Ports.Last != o.Ports.First {
		d.LastPort = o.Ports.Last
	}
	if o.Status == routing.LocalOnly || o.Status == routing.Off {
		d.Before, d.After = nil, nil
	}
	if o.Status == routing.LocalOnly {
		d.Mode = ""
	}
	return d
}

// plannedWith and checkedWith add what packets showed of a listener.
func plannedWith(s *routing.Seen) func(routing.Outcome) listenerDoc {
	find := s.Finder()
	return func(o routing.Outcome) listenerDoc {
		d := listenerDocOf(o)
		if l, found := find(o.Listener); found {
			d.Seen = &seenDoc{l.Verdict, l.Outcome}
		}
		return d
	}
}

func checkedWith(s *routing.Seen) func(Checked) checkedDoc {
	add := plannedWith(s)
	return func(c Checked) checkedDoc {
		d := checkedDocOf(c)
		d.Seen = add(c.Outcome).Seen
		return d
	}
}

func checkedDocOf(c Checked) checkedDoc {
	d := checkedDoc{listenerDoc: listenerDocOf(c.Outcome), Verdict: string(c.Verdict),
		Want: c.Want, Wrong: mapped(c.Wrong, func(w WrongClient) wrongDoc {
			return wrongDoc{w.Client, wayDocOf(w.Now), wayDocOf(w.Want)}
		})}
	if c.Question.Dst.IsValid() {
		d.Client, d.Now = c.Question.Dst.String(), wayDocOf(c.Now)
	}
	return d
}

func wayDocOf(w routing.Way) *wayDoc {
	d := wayDoc{Interface: w.Link, Gateway: text(w.Via), Table: w.Table, More: w.More,
		LastHop: w.LastHop}
	if w.Type != routing.Unicast {
		d.Type = w.String()
	}
	return &d
}

func pathDocOf(p routing.Path) pathDoc {
	return pathDoc{p.Link, p.Family.String(), gateways(p), string(p.Source), p.Table,
		prefixes(p), p.LastHop}
}

func moveDocOf(m routing.Move) moveDoc {
	return moveDoc{mapped(m.Listeners, netip.Prefix.String), m.Link, string(m.Class),
		mapped(m.Clients, netip.Prefix.String), wayDocOf(m.Before), wayDocOf(m.After)}
}

func routeDocOf(r routing.Route) routeDoc {
	return routeDoc{r.Family().String(), r.Table, r.Dst.String(), r.String()}
}

func ruleDocOf(r routing.Rule) ruleDoc { return ruleDoc{r.Family.String(), r.Priority, r.Args()} }

func changeDocOf(o routing.Op) changeDoc {
	d := changeDoc{"add", "rule", o.Command()}
	switch {
	case o.Route != nil:
		d.Op, d.Object = "replace", "route"
	case o.Group != nil:
		d.Op, d.Object = "set", "link"
	case o.Filter != nil:
		d.Object = "filter"
	case o.Wanted != nil:
		d.Object = "listener"
	}
	switch {
	case o.Delete && o.Group != nil:
		d.Op = "unset"
	case o.Delete:
		d.Op = "delete"
	case o.Append:
		d.Op = "append"
	}
	return d
}

// text returns a valid address or prefix as it is written; "" for an invalid
// one.
func text(a interface {
	IsValid() bool
	String() string
}) string {
	if !a.IsValid() {
		return ""
	}
	return a.String()
}

// list returns the same list, but never null.
func list[T any](l []T) []T {
	if l == nil {
		return []T{}
	}
	return l
}

func mapped[T, U any](l []T, f func(T) U) []U {
	out := make([]U, 0, len(l))
	for _, x := range l {
		out = append(out, f(x))
	}
	return out
}
