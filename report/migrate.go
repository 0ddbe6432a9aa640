package report

import (
	"cmp"
	"fmt"
	"io"
	"iter"
	"maps"
	"slices"
	"strings"

	"lasthop/bigip/migrate"
	"lasthop/routing"
)

// Migration is the result of `lasthop migrate`. The drawing shows its Plan.
type Migration struct {
	Head
	BIGIP BIGIP
	Since *Since // nil if nothing is compared
	migrate.Result
}

// BIGIP is where the virtual servers were.
type BIGIP struct {
	Hostname string `json:"hostname,omitempty"`
	Version  string `json:"version,omitempty"`
	// connection.autolasthop, "enabled" or "disabled"
	Global string `json:"autolasthop"`
	// file:line, the flag, or F5's default
	GlobalFrom string `json:"autolasthop_origin,omitempty"`
	Stanzas    int    `json:"stanzas"`
	// of these, those that were not read whole or are unknown: a warning
	// names each
	Named int `json:"named"`
}

// migrationStatus is a status of rows, with what it is called, its color on a
// terminal and its tone on a page.
type migrationStatus struct{ status, name, what, color, tone string }

// migrationStatuses begins with the gravest.
var migrationStatuses = []migrationStatus{
	{migrate.Manual, "manual", "an administrator must read and decide", red, "bad"},
	{migrate.NeedsInput, "need input", "the findings say what is missing", yellow, "warn"},
	{migrate.Ready, "ready", "replies will leave the way their requests come in",
		green, "good"},
	{migrate.NotApplicable, "not applicable", "nothing here replies to their clients", "", ""},
}

// of returns what the status of n virtual servers is called.
func (s migrationStatus) of(n int) string {
	if s.status == migrate.NeedsInput && n == 1 {
		return "needs input"
	}
	return s.name
}

func statusRank(status string) int {
	return slices.IndexFunc(migrationStatuses,
		func(s migrationStatus) bool { return s.status == status })
}

// virtualServers yields the rows of each virtual server; they are consecutive.
func (m Migration) virtualServers() iter.Seq[[]migrate.Row] {
	return func(yield func([]migrate.Row) bool) {
		for rest := m.Rows; len(rest) > 0; {
			n := 1
			for n < len(rest) && rest[n].Virtual == rest[0].Virtual &&
				rest[n].Origin == rest[0].Origin {
				n++
			}
			if !yield(rest[:n]) {
				return
			}
			rest = rest[n:]
		}
	}
}

// tally counts virtual servers, each by the gravest status of its rows; one
// with a row that applies is not "not-applicable".
func (m Migration) tally() (byStatus map[string]int, total, lastHop int) {
	byStatus = map[string]int{}
	for rows := range m.virtualServers() {
		gravest, relies := rows[0].Status, false
		for i := range rows {
			r := &rows[i]
			if statusRank(r.Status) < statusRank(gravest) {
				gravest = r.Status
			}
			relies = relies || r.Return == "last-hop" || r.Return == "last-hop-pool"
		}
		byStatus[gravest]++
		total++
		if relies {
			lastHop++
		}
	}
	return byStatus, total, lastHop
}

// verdict summarises the migration in a few sentences.
func (m Migration) verdict() string {
	byStatus, total, lastHop := m.tally()
	var parts []string
	for _, s := range migrationStatuses {
		if n := byStatus[s.status]; n > 0 {
			parts = append(parts, number(n)+" "+s.of(n))
		}
		if n := m.decided(); n > 0 && s.status == migrate.Ready {
			parts = append(parts, number(n)+" of these by a decision")
		}
		if n := m.leftOut(); n > 0 && s.status == migrate.NotApplicable {
			parts = append(parts, number(n)+" of these left out")
		}
	}
	text := fmt.Sprintf("%s: %s; %s relied on the last hop.", count(total, "virtual server"),
		strings.Join(parts, ", "), number(lastHop))
	if lost := m.lost(); len(lost) > 0 {
		text += " By decision, these clients get replies by another path than their " +
			"requests: " + some(lost, 6) + "."
	}
	if blocks := m.blocks(); len(blocks) > 0 {
		text += " In the way: " + some(blocks, 6) + "."
	}
	return text
}

// lost returns the clients that lose by the user's decisions, with the number
// of their virtual servers.
func (m Migration) lost() []string {
	var clients []string
	virtuals := map[string]map[string]bool{}
	for _, r := range m.Rows {
		if r.Loses == "" {
			continue
		}
		if virtuals[r.Loses] == nil {
			virtuals[r.Loses] = map[string]bool{}
			clients = append(clients, r.Loses)
		}
		virtuals[r.Loses][r.Virtual] = true
	}
	return mapped(clients, func(c string) string {
		return fmt.Sprintf("%s (%s)", c, count(len(virtuals[c]), "virtual server"))
	})
}

// decided counts the virtual servers that are ready because of the user's
// decision.
func (m Migration) decided() (n int) {
	for rows := range m.virtualServers() {
		if !slices.ContainsFunc(rows, migrate.Row.Blocked) && slices.ContainsFunc(rows,
			func(r migrate.Row) bool { return r.Decided != "" }) {
			n++
		}
	}
	return n
}

// leftOut counts the virtual servers that --only and --skip leave out.
func (m Migration) leftOut() (n int) {
	for rows := range m.virtualServers() {
		if !slices.ContainsFunc(rows, func(r migrate.Row) bool { return !r.LeftOut() }) {
			n++
		}
	}
	return n
}

// blocks counts virtual servers by the first thing that is missing.
func (m Migration) blocks() []string {
	type key struct{ virtual, origin, reason string }
	seen, n := map[key]bool{}, map[string]int{}
	for _, r := range m.Rows {
		if k := (key{r.Virtual, r.Origin, r.Reason}); r.Blocked() && !seen[k] {
			seen[k] = true
			n[r.Reason]++
		}
	}
	reasons := slices.SortedFunc(maps.Keys(n), func(a, b string) int {
		return cmp.Or(n[b]-n[a], cmp.Compare(a, b))
	})
	return mapped(reasons, func(reason string) string {
		return fmt.Sprintf("%s (%s)", reason, number(n[reason]))
	})
}

// gravestFirst sorts rows by status and keeps their order otherwise.
func (m Migration) gravestFirst() []migrate.Row {
	out := make([]migrate.Row, 0, len(m.Rows))
	for _, s := range migrationStatuses {
		for i := range m.Rows {
			if m.Rows[i].Status == s.status {
				out = append(out, m.Rows[i])
			}
		}
	}
	return out
}

type migrationDoc struct {
	headDoc
	BIGIP     BIGIP             `json:"bigip"`
	Selection []string          `json:"selection"`
	Since     *Since            `json:"since,omitempty"` // of --diff
	Virtuals  []migrate.Row     `json:"virtuals"`
	Findings  []routing.Finding `json:"findings"`
	Flags     []string          `json:"flags"`
	Settings  string            `json:"settings"`
	Steps     []migrate.Step    `json:"steps"`
}

// JSON writes the result as one document of kind "migrate".
func (m Migration) JSON(w io.Writer) error {
	byStatus, total, lastHop := m.tally()
	summary := map[string]int{"virtuals": total, "rows": len(m.Rows),
		"relied_on_last_hop": lastHop, "decided": m.decided(), "left_out": m.leftOut(),
		"findings": len(m.Findings)}
	for status, n := range byStatus {
		summary[status] = n
	}
	steps := mapped(m.Steps, func(s migrate.Step) migrate.Step {
		s.Lines, s.Notes = list(s.Lines), list(s.Notes)
		return s
	})
	doc := migrationDoc{m.Head.doc("migrate", "", summary), m.BIGIP, list(m.Selection), m.Since,
		[]migrate.Row{},
		list(m.Findings), list(m.Flags), m.Settings, steps}
	return encodeRows(w, doc, "virtuals", func(yield func(migrate.Row) bool) {
		for _, r := range m.Rows {
			if r.Also = list(r.Also); !yield(r) {
				return
			}
		}
	})
}

var migrationColumns = []string{"virtual", "destination", "address", "port", "protocol", "vlan",
	"last_hop", "decided_by", "decided_value", "decided_at", "listener", "listen",
	"listen_origin", "interface", "gateway", "gateway_source", "present", "status", "reason",
	"also", "remedy", "before", "after", "origin", "decided", "loses",
	"source"}

// CSV writes a line of names and one for each virtual server, destination and
// VLAN.
func (m Migration) CSV(w io.Writer) error {
	return writeCSV(w, migrationColumns, m.Rows, func(r migrate.Row) []string {
		return []string{r.Virtual, r.Destination, r.Address, r.Port, r.Protocol, r.VLAN,
			r.Return, r.Level, r.Value, r.LevelOrigin,
			r.Match, r.Listen, r.ListenOrigin, r.Interface, r.Gateway, r.GatewaySource,
			fmt.Sprint(r.Present), r.Status, r.Reason,
			strings.Join(r.Also, " "), r.Remedy, r.Before, r.After, r.Origin,
			r.Decided, r.Loses, r.Source}
	})
}

// Text writes what becomes of each virtual server, what is missing, and the
// steps of the cut-over.
func (m Migration) Text(w io.Writer, s Style) error {
	t := &page{style: s}
	t.head("migrate", m.Head)
	t.wrap("", m.source())
	t.printf("\n")
	t.wrap("", m.verdict())
	m.Since.text(t)
	t.virtuals(m.Rows)
	t.findings("Findings", m.Findings)
	guide(t, m.Findings)
	t.steps(m.Steps)
	t.printf("\nNothing was changed.\n")
	return t.writeTo(w)
}

// source names the BIG-IP, and what of its files was read.
func (m Migration) source() string {
	name := "BIG-IP " + Escape(cmp.Or(m.BIGIP.Hostname, "without a name"))
	if m.BIGIP.Version != "" {
		name += ", TMOS " + Escape(m.BIGIP.Version)
	}
	stanzas := count(m.BIGIP.Stanzas, "stanza")
	if m.BIGIP.Named > 0 {
		stanzas += fmt.Sprintf(", %s of them named in warnings", number(m.BIGIP.Named))
	}
	text := fmt.Sprintf("%s: %s; connection.autolasthop %s, %s", name, stanzas, m.BIGIP.Global,
		Escape(m.BIGIP.GlobalFrom))
	if len(m.Selection) > 0 {
		text += "; " + Escape(strings.Join(m.Selection, " "))
	}
	return text
}

// virtualList is a list of virtual servers in text: a status, or the part of it
// that is ready by a decision, or left out.
type virtualList struct {
	migrationStatus
	part bool
}

// virtualLists begin with the gravest.
var virtualLists = []virtualList{
	{migrationStatuses[0], false}, {migrationStatuses[1], false},
	{migrationStatus{migrate.Ready, "ready by a decision",
		"only as long as the administrator's decision is right", yellow, ""}, true},
	{migrationStatuses[2], false}, {migrationStatuses[3], false},
	{migrationStatus{migrate.NotApplicable, "left out", "--only and --skip exclude " +
		"them", "", ""},
		true},
}

// listOf returns the index in virtualLists of a row.
func listOf(r *migrate.Row) int {
	part := r.LeftOut() || r.Status == migrate.Ready && r.Decided != ""
	return slices.IndexFunc(virtualLists, func(l virtualList) bool {
		return l.status == r.Status && l.part == part
	})
}

// maxVirtuals is how many virtual servers of a kind text lists.
const maxVirtuals = 10000

// virtuals lists each virtual server and destination once, by its gravest row.
func (t *page) virtuals(rows []migrate.Row) {
	lists := make([][][]*migrate.Row, len(virtualLists))
	for _, of := range served(rows) {
		slices.SortStableFunc(of, func(a, b *migrate.Row) int {
			return cmp.Compare(listOf(a), listOf(b))
		})
		k := listOf(of[0])
		lists[k] = append(lists[k], of)
	}
	for k, s := range virtualLists {
		list := lists[k]
		if len(list) == 0 {
			continue
		}
		t.heading("%s (%s): %s", upperFirst(s.of(len(list))), number(len(list)), s.what)
		n := min(len(list), maxVirtuals)
		t.table(mapped(list[:n], func(of []*migrate.Row) row {
			return newRow(s.color, short(of[0].Virtual), endpoint(*of[0]),
				ingress(*of[0]), fates(of))
		}))
		if n < len(list) {
			t.printf("  … and %s more; all of them with -o csv or -o json\n",
				number(len(list)-n))
		}
	}
}

// served are the rows of each virtual server and destination, in their order.
func served(rows []migrate.Row) (lists [][]*migrate.Row) {
	at := make(map[place]int, len(rows))
	for i := range rows {
		r := &rows[i]
		key := placeOf(r)
		n, ok := at[key]
		if !ok {
			n, at[key] = len(lists), len(lists)
			lists = append(lists, nil)
		}
		lists[n] = append(lists[n], r)
	}
	return lists
}

// fates describes the replies of the first row, and those of other rows by
// their VLANs.
func fates(of []*migrate.Row) string {
	text := rowFate(*of[0])
	for _, r := range of[1:] {
		text += "; " + ingress(*r) + ": " + rowFate(*r)
	}
	return text
}

// short leaves out the partition that most objects are in.
func short(name string) string { return Escape(strings.TrimPrefix(name, "/Common/")) }

// endpoint is where clients connected to: "10.0.1.100:443/tcp".
func endpoint(r migrate.Row) string { return Escape(plainEndpoint(r)) }

func plainEndpoint(r migrate.Row) string {
	host := cmp.Or(r.Address, r.Destination, "?")
	if strings.Contains(host, ":") {
		host = "[" + host + "]"
	}
	return fmt.Sprintf("%s:%s/%s", host, cmp.Or(r.Port, "?"), r.Protocol)
}

// ingress is the VLAN there and its interface here: "external = eth1".
func ingress(r migrate.Row) string {
	switch {
	case r.VLAN == "":
		return "-"
	case r.Interface == "":
		return short(r.VLAN)
	}
	return short(r.VLAN) + " = " + Escape(r.Interface)
}

// rowFate describes the replies, or what is missing to know them.
func rowFate(r migrate.Row) string { return Escape(plainFate(r)) }

func plainFate(r migrate.Row) string {
	switch r.Status {
	case migrate.Ready:
		return r.After + decision(r)
	case migrate.NotApplicable:
		return r.Before
	}
	return strings.Join(append([]string{r.Reason}, r.Also...), ", ")
}

// decision describes the user's decision that made a row ready.
func decision(r migrate.Row) string {
	switch {
	case r.Decided == "":
		return ""
	case r.Loses == "":
		return "; decided: " + r.Decided
	}
	return "; decided, loses: " + r.Loses
}

func (t *page) steps(steps []migrate.Step) {
	phase := ""
	for i, s := range steps {
		if s.Phase != phase {
			phase = s.Phase
			t.heading("%s", phaseTitle(phase))
		}
		t.wrap(fmt.Sprintf("  %d. ", i+1), stepName(s))
		n := listed(len(s.Lines))
		for _, line := range s.Lines[:n] {
			t.printf("       %s\n", oneLine(line))
		}
		if n < len(s.Lines) {
			t.printf("       … and %s more; all of them with -o json\n",
				number(len(s.Lines)-n))
		}
		for _, note := range s.Notes {
			t.wrap("     ", Escape(note))
		}
	}
}

func phaseTitle(phase string) string {
	return map[string]string{"prepare": "Before the cut-over", "cut-over": "Cut-over",
		"roll-back": "Roll-back"}[phase]
}

// stepName returns a step's title, with the place where to do it.
func stepName(s migrate.Step) string {
	where := map[string]string{"nginx.conf": "In nginx.conf",
		"lasthop.yaml": "In /etc/lasthop/lasthop.yaml", "host": "On this host",
		"big-ip": "On the BIG-IP"}[s.Where]
	if where == "" {
		return upperFirst(s.Title)
	}
	if len(s.Units) > 0 {
		where = "On each of " + Escape(strings.Join(s.Units, ", "))
	}
	return where + ": " + Escape(s.Title)
}
