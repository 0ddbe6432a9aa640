package report

import (
	"fmt"
	"io"
	"net/netip"
	"slices"
	"strings"
	"unicode/utf8"

	"lasthop/routing"
)

// Explain is the result of `lasthop explain`: how replies of one address leave,
// rule by rule.
type Explain struct {
	Head
	Digest     string // of the plan; "" without one
	Addr       netip.Addr
	Port       uint16 // 0 if none was named
	Link       string // that the address belongs to
	VRF        string // that its interface is in
	Here       bool   // the address is on this host now
	Offline    bool
	Listeners  []routing.Outcome // on the address, and on the port if one was named
	OtherPorts int               // listeners on its other ports
	Explained  []Explained
	NoPlan     string            // why the result of apply is unknown; "" if it is known
	NotAsked   string            // why the kernel was not asked; "" if it was
	Seen       []routing.SeenWay // that packets took, as evidence says
	Commands
}

// Commands are command lines that go on from an explanation.
type Commands struct {
	Apply string // makes it so; "" where nothing changes
	Ask   string // asks the kernel
}

// Explained is one explanation with what else is known of it.
type Explained struct {
	routing.Explanation
	NowNeighs, AfterNeighs []routing.Neigh
	// its answers, one for each client; none if it was not asked
	Kernel []routing.Way
}

// Disagree counts the clients for which the kernel's answer differs from the
// explanation.
func (e Explain) Disagree() (n int) {
	for _, x := range e.Explained {
		for _, w := range x.Kernel {
			if !x.Now.Agrees(w) {
				n++
			}
		}
	}
	return n
}

// Text writes the explanation for people: the listeners, then for each kind of
// client the rules tried.
func (e Explain) Text(w io.Writer, s Style) error {
	t := &page{style: s}
	t.head("explain", e.Head)
	t.subject(e)
	seen := map[string]bool{}
	for _, x := range e.Explained {
		t.explained(x, e.NoPlan != "", seen)
	}
	writeWays(t, e.Seen)
	t.printf("\n")
	switch {
	case e.NotAsked != "":
		t.wrap("", "lasthop did not ask the kernel: "+Escape(e.NotAsked)+".")
	case e.Disagree() == 0:
		t.printf("The kernel gives the same answers.\n")
	}
	if e.NoPlan != "" {
		t.wrap("", "lasthop does not know what apply would change: "+Escape(e.NoPlan)+".")
	}
	t.command("To make it so", oneLine(e.Apply))
	t.command("To ask the kernel yourself", oneLine(e.Ask))
	return t.writeTo(w)
}

// subject describes the address.
func (t *page) subject(e Explain) {
	where := "is on no interface, and in no uplink's subnet"
	switch {
	case e.Link != "" && e.Here:
		where = "is on " + Escape(e.Link)
	case e.Link != "":
		where = "belongs to " + Escape(e.Link) + ", and this host does not have it now"
	case e.Here:
		where = "is on this host"
	}
	t.printf("\n%s %s.\n", e.Addr, where)
	if e.VRF != "" {
		t.wrap("", t.paint(yellow, "It is in the VRF "+Escape(e.VRF)+
			", which lasthop does not look into: this is the path of sockets "+
			"outside of it."))
	}
	switch {
	case len(e.Listeners) == 0 && e.OtherPorts > 0:
		t.printf("NGINX does not listen on its port %d, but on %s.\n", e.Port,
			count(e.OtherPorts, "other port"))
	case len(e.Listeners) == 0 && e.NoPlan == "":
		t.printf("NGINX does not listen on it.\n")
	}
	var rows []row
	for i, o := range e.Listeners {
		if i == maxRows && len(e.Listeners) > maxRows+1 {
			rows = append(rows, newRow("", "… and",
				fmt.Sprintf("%d more", len(e.Listeners)-i)))
			break
		}
		status := string(o.Status)
		if o.Reason != "" {
			status += " (" + string(o.Reason) + ")"
		}
		names := Escape(someOf(o.Servers, 3, o.MoreServers))
		rows = append(rows, newRow(statusColor(o), "port "+o.PortName(), status,
			Escape(someOf(o.Origins, 3, o.MoreOrigins)), names))
	}
	t.table(rows)
}

// explained writes one group of clients: which clients, where their replies
// leave, and why.
func (t *page) explained(x Explained, noPlan bool, seen map[string]bool) {
	t.heading("%s: %s", Escape(classesOf(x.Clients)), Escape(nowAndAfter(x.Explanation)))
	for i, c := range x.Clients {
		if i == 3 && len(x.Clients) > 4 {
			t.printf("  and %d more\n", len(x.Clients)-i)
			break
		}
		of := ""
		if c.Of != "" {
			of = ", " + c.Of
		}
		t.wrap("  to ", c.Addr.String()+Escape(of))
	}
	t.printf("  Now:\n")
	t.trace(x.Now, x.NowNeighs, seen)
	switch {
	case noPlan:
	case x.Same():
		t.printf("  After apply: the same.\n")
	default:
		t.printf("  After apply:\n")
		t.trace(x.After, x.AfterNeighs, seen)
	}
	for i, w := range x.Kernel {
		if !x.Now.Agrees(w) {
			t.wrapIn(red, "  ", fmt.Sprintf("The kernel disagrees for %s: %s "+
				"(table %d)", x.Clients[i].Addr, Escape(w.String()), w.Table))
		}
	}
}

func classesOf(clients []routing.Client) string {
	var list []string
	for _, c := range clients {
		if !slices.Contains(list, string(c.Class)) {
			list = append(list, string(c.Class))
		}
	}
	return upperFirst(strings.Join(list, ", "))
}

func nowAndAfter(x routing.Explanation) string {
	if sameWay(x.Now.Way, x.After.Way) {
		return x.Now.Way.String()
	}
	return x.Now.Way.String() + " -> " + x.After.Way.String()
}

// trace writes a line for each rule tried: its priority, the rule, and its
// result. Rules that did not match are written once; seen holds them.
func (t *page) trace(x routing.Trace, neighs []routing.Neigh, seen map[string]bool) {
	rows := steps(x, seen)
	const most = 40 // columns of a rule that others are aligned with
	width := 0
	for _, r := range rows {
		if n := utf8.RuneCountInString(r.cells[1]); n <= most {
			width = max(width, n)
		}
	}
	for _, r := range rows {
		t.step(r, width)
	}
	if how := x.Choice(); how != "" {
		t.printf("%sone of the %d is chosen %s\n", indent, len(x.Ends), how)
	}
	for _, n := range neighs {
		state := "no neighbour entry yet"
		if n.State != "" {
			state = strings.TrimSpace(n.MAC + " " + strings.ToLower(n.State))
		}
		t.wrap(indent, fmt.Sprintf("%s on %s: %s", n.Addr, Escape(n.Link), Escape(state)))
	}
	if r := x.NotModelled(); r != nil {
		t.wrap(indent, "uncertain: whether "+Escape(r.Opaque)+" matches is unknown")
	}
}

const indent = "          "

// step writes a line, or two if it is too long for one.
func (t *page) step(r row, width int) {
	priority, rule, effect := r.cells[0], r.cells[1], r.cells[2]
	start := fmt.Sprintf("%8s  %-*s", priority, width, rule)
	if limit := t.style.columns(); utf8.RuneCountInString(start)+2+
		utf8.RuneCountInString(effect) <= limit {
		t.printf("%s\n", strings.TrimRight(start+"  "+t.paint(r.color, effect), " "))
		return
	}
	t.printf("%s\n", strings.TrimRight(start, " "))
	t.wrap(indent+"  ", t.paint(r.color, effect))
}

// steps are the rules tried, and the end if none answered.
func steps(x routing.Trace, seen map[string]bool) []row {
	var rows []row
	for i := 0; i < len(x.Steps); {
		run := i
		for run < len(x.Steps) && !x.Steps[run].Matched() {
			run++
		}
		rows = append(rows, unmatched(x.Steps[i:run], x.Query, seen)...)
		if run < len(x.Steps) {
			rows = append(rows, stepRow(x.Steps[run], x.Query))
		}
		i = run + 1
	}
	if len(x.Ends) == 0 {
		rows = append(rows, newRow(red, "", "no rule has answered", "-> no route"))
	}
	return rows
}

// unmatched are rules in a row that did not match. Rules that were written
// before are only counted, and so are very many.
func unmatched(run []routing.Step, q routing.Query, seen map[string]bool) []row {
	again := 0
	for _, s := range run {
		if seen[s.Rule.String()] {
			again++
		}
	}
	var rows []row
	if again > 1 {
		rows = append(rows, newRow("", "…", count(again, "rule")+" not matched",
			"as above"))
	}
	left := 0
	for i, s := range run {
		key := s.Rule.String()
		switch {
		case seen[key] && again > 1:
		case len(rows) > maxRows && (left > 0 || i+1 < len(run)):
			left++
		default:
			rows = append(rows, stepRow(s, q))
		}
		seen[key] = true
	}
	if left > 0 {
		rows = append(rows, newRow("", "…",
			count(left, "more rule")+" not matched", "each with -o json"))
	}
	return rows
}

func stepRow(s routing.Step, q routing.Query) row {
	rule, _, _ := strings.Cut(ruleText(s.Rule), " proto ")
	r := newRow("", fmt.Sprint(s.Rule.Priority), Escape(rule), Escape(s.Why(q)))
	switch s.Effect {
	case routing.NotMatched:
		r.cells[2] = "no: " + r.cells[2]
	case routing.Answered:
		r.cells[2], r.color = "-> "+r.cells[2], green
	case routing.Rejected:
		r.cells[2], r.color = "-> "+r.cells[2], red
	}
	return r
}

// ruleText is the rule as `ip rule` prints it, without the priority.
func ruleText(r routing.Rule) string {
	_, text, _ := strings.Cut(r.String(), "\t")
	return text
}

type explainDoc struct {
	headDoc
	Offline   bool              `json:"offline,omitempty"`
	Address   string            `json:"address"`
	Port      uint16            `json:"port,omitempty"`
	Interface string            `json:"interface,omitempty"`
	Here      bool              `json:"here"`
	VRF       string            `json:"vrf,omitempty"`
	Listeners []listenerDoc     `json:"listeners"`
	Explained []explainedDoc    `json:"explanations"`
	NoPlan    string            `json:"no_plan,omitempty"`
	NotAsked  string            `json:"not_asked,omitempty"`
	Seen      []routing.SeenWay `json:"seen,omitempty"`
}

type explainedDoc struct {
	Clients []clientDoc `json:"clients"`
	Same    bool        `json:"same"`
	Now     traceDoc    `json:"now"`
	After   *traceDoc   `json:"after,omitempty"`
}

type clientDoc struct {
	routing.Client
	Kernel *wayDoc `json:"kernel,omitempty"`
	Agrees *bool   `json:"agrees,omitempty"`
}

type traceDoc struct {
	Way        *wayDoc    `json:"way"`
	Uncertain  bool       `json:"uncertain,omitempty"`
	Choice     string     `json:"choice,omitempty"`
	Steps      []stepDoc  `json:"steps"`
	Neighbours []neighDoc `json:"neighbours"`
}

type stepDoc struct {
	Priority int    `json:"priority"`
	Rule     string `json:"rule"`
	Table    uint32 `json:"table,omitempty"`
	Effect   string `json:"effect"`
	Why      string `json:"why"`
	Route    string `json:"route,omitempty"`
}

type neighDoc struct {
	Interface string `json:"interface"`
	Address   string `json:"address"`
	MAC       string `json:"mac,omitempty"`
	State     string `json:"state,omitempty"`
}

// JSON writes the explanation as one document of kind "explain".
func (e Explain) JSON(w io.Writer) error {
	summary := map[string]int{"explanations": len(e.Explained), "clients": 0, "changed": 0,
		"disagree": e.Disagree()}
	for _, x := range e.Explained {
		summary["clients"] += len(x.Clients)
		if !x.Same() {
			summary["changed"]++
		}
	}
	return encode(w, explainDoc{e.Head.doc("explain", e.Digest, summary), e.Offline,
		e.Addr.String(), e.Port, e.Link, e.Here, e.VRF, mapped(e.Listeners, listenerDocOf),
		mapped(e.Explained, func(x Explained) explainedDoc {
			return explainedDocOf(x, e.NoPlan == "")
		}), e.NoPlan, e.NotAsked, e.Seen})
}

func explainedDocOf(x Explained, planned bool) explainedDoc {
	d := explainedDoc{Clients: []clientDoc{}, Same: x.Same(),
		Now: traceDocOf(x.Now, x.NowNeighs)}
	for i, c := range x.Clients {
		client := clientDoc{Client: c}
		if i < len(x.Kernel) {
			agrees := x.Now.Agrees(x.Kernel[i])
			client.Kernel, client.Agrees = wayDocOf(x.Kernel[i]), &agrees
		}
		d.Clients = append(d.Clients, client)
	}
	if planned {
		after := traceDocOf(x.After, x.AfterNeighs)
		d.After = &after
	}
	return d
}

func traceDocOf(t routing.Trace, neighs []routing.Neigh) traceDoc {
	return traceDoc{wayDocOf(t.Way), t.NotModelled() != nil, t.Choice(),
		mapped(t.Steps, func(s routing.Step) stepDoc {
			d := stepDoc{s.Rule.Priority, ruleText(s.Rule), s.Rule.Table,
				string(s.Effect), s.Why(t.Query), ""}
			if s.Route != nil {
				d.Route = s.Route.String()
			}
			return d
		}),
		mapped(neighs, func(n routing.Neigh) neighDoc {
			return neighDoc{n.Link, n.Addr.String(), n.MAC, n.State}
		})}
}
