package report

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/cdproto/accessibility"
	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/input"
	"github.com/chromedp/cdproto/log"
	cdppage "github.com/chromedp/cdproto/page"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"
	"github.com/google/go-cmp/cmp"

	"lasthop/routing"
)

// These tests open the HTML report from disk in a headless Chromium, as its
// readers do. Screenshots and PDFs are kept as artifacts (go test -artifacts).

// browser starts Chromium, one for a test.
func browser(t *testing.T) context.Context {
	t.Helper()
	path := chromium()
	if path == "" && os.Getenv("CI") == "true" {
		t.Fatal("no Chromium: testdata/lab/deps.sh installs it")
	}
	if path == "" {
		t.Skip("no Chromium that can read files of ours (a snap cannot)")
	}
	limited, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	t.Cleanup(cancel)
	// As root there is no sandbox; what is opened is lasthop's.
	flags := append(chromedp.DefaultExecAllocatorOptions[:], chromedp.ExecPath(path),
		chromedp.NoSandbox, chromedp.UserDataDir(t.TempDir()),
		chromedp.Flag("disable-gpu", true), chromedp.Flag("disable-quic", true),
		chromedp.Flag("disable-component-update", true))
	allocator, cancelAllocator := chromedp.NewExecAllocator(limited, flags...)
	t.Cleanup(cancelAllocator)
	ctx, cancelBrowser := chromedp.NewContext(allocator)
	t.Cleanup(cancelBrowser)
	if err := chromedp.Do(ctx); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { chromedp.Cancel(ctx) }) // waits for its end
	return ctx
}

// chromium finds one that runs and is no snap, which sees neither /tmp nor
// hidden directories.
func chromium() string {
	for _, name := range []string{"chromium", "chromium-browser", "google-chrome"} {
		path, err := exec.LookPath(name)
		if err != nil {
			continue
		}
		if out, err := exec.Command(path, "--version").Output(); err == nil &&
			!bytes.Contains(out, []byte("snap")) {
			return path
		}
	}
	return ""
}

// tab is one page of the report in the browser.
type tab struct {
	*testing.T
	ctx context.Context
}

// open renders a report into a file and opens it in a tab of its own. A message
// on the console fails the test.
func open(t *testing.T, browser context.Context, p interface{ HTML(io.Writer) error }) tab {
	t.Helper()
	var b bytes.Buffer
	if err := p.HTML(&b); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "report.html")
	if err := os.WriteFile(file, b.Bytes(), 0o644); err != nil {
		t.Fatal(err)
	}
	complaints := make(chan string, 100)
	ctx, cancel := chromedp.NewContext(browser, chromedp.WithListener(func(event any) {
		if s := complaint(event); s != "" {
			select {
			case complaints <- s:
			default: // enough
			}
		}
	}))
	// the tab lives as long as the context of the first call
	if err := chromedp.Do(ctx); err != nil {
		t.Fatal(err)
	}
	tab := tab{t, ctx}
	t.Cleanup(func() {
		// comes after all that the page has to say
		_, _ = chromedp.Run(ctx, chromedp.Evaluate[int]("1"))
		cancel()
		for range len(complaints) {
			t.Errorf("console: %s", <-complaints)
		}
	})
	tab.do(chromedp.EmulateViewport(1280, 900), chromedp.Navigate("file://"+file))
	return tab
}

// complaint is what the page says on the console: exceptions, messages of
// scripts, and the browser's own, as on the content policy.
func complaint(event any) string {
	switch e := event.(type) {
	case *runtime.EventExceptionThrown:
		return e.ExceptionDetails.Text
	case *runtime.EventConsoleAPICalled:
		return string(e.Type)
	case *log.EventEntryAdded:
		return e.Entry.Text
	}
	return ""
}

func (t tab) do(steps ...chromedp.Action[chromedp.Void]) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.ctx, time.Minute)
	defer cancel()
	if err := chromedp.Do(ctx, steps...); err != nil {
		t.Fatal(err)
	}
}

// eval evaluates a script in the page.
func eval[T any](t tab, script string) T {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.ctx, time.Minute)
	defer cancel()
	v, err := chromedp.Run(ctx, chromedp.Evaluate[T](script))
	if err != nil {
		t.Fatalf("%s: %v", script, err)
	}
	return v
}

// column returns the texts of a column of the visible rows.
func (t tab) column(n int) []string {
	t.Helper()
	return eval[[]string](t,
		fmt.Sprintf(`[...document.querySelectorAll(".list tbody tr")].filter(r => r.offsetParent !== null).map(r => r.cells[%d].textContent)`, n))
}

// find types into the filter.
func (t tab) find(text string) {
	t.Helper()
	t.do(chromedp.Evaluate[chromedp.Void](`document.querySelector("[name=find]").select()`),
		chromedp.Func(func(ctx context.Context, target *chromedp.Target) error {
			_, err := cdp.Call(ctx, target, input.InsertText,
				input.InsertTextParams{Text: text})
			return err
		}))
}

func (t tab) click(selector string) {
	t.Helper()
	t.do(chromedp.Click(chromedp.CSS(selector)))
}

func (t tab) shown() string {
	t.Helper()
	return eval[string](t, `document.querySelector(".list [role=status]").textContent`)
}

func (t tab) equal(what string, want, got any) {
	t.Helper()
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("%s: -want +got\n%s", what, d)
	}
}

// keep writes an artifact.
func (t tab) keep(name string, data []byte) string {
	t.Helper()
	dir := os.Getenv("LASTHOP_ARTIFACTS")
	if dir == "" {
		dir = t.ArtifactDir()
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(dir, name)
	if err := os.WriteFile(file, data, 0o644); err != nil {
		t.Fatal(err)
	}
	return file
}

// picture keeps what the window shows, or the whole page where it is not too
// long.
func (t tab) picture(name string) {
	t.Helper()
	shot := chromedp.CaptureScreenshot()
	if eval[int](t, `document.documentElement.scrollHeight`) < 8000 {
		shot = chromedp.FullScreenshot(100)
	}
	png, err := chromedp.Run(t.ctx, shot)
	if err != nil {
		t.Fatal(err)
	}
	t.keep(name+".png", png)
}

func TestPageOfThree(t *testing.T) {
	p := smallPlan(t)
	tab := open(t, browser(t), p)
	tab.holds(p)
	tab.leavesBy("10.0.1.1", "10.0.0.1")
	tab.picture("3-light")
	tab.print("3", chromedp.PaperA4)
	tab.paper(chromedp.PaperA4)
	tab.paper(chromedp.PaperLetter)
	tab.keyboard()
	tab.contrast("light")
	tab.names()
	tab.headings()
	tab.media("screen", "dark")
	tab.contrast("dark")
	tab.picture("3-dark")
	tab.media("screen", "light")
	tab.do(chromedp.EmulateViewport(600, 900))
	if wide := eval[int](tab, `document.documentElement.scrollWidth`); wide > 600 {
		t.Errorf("the page is %d wide in a window of 600", wide)
	}
	tab.picture("3-narrow")
}

func TestPageOfThousands(t *testing.T) {
	p := bigPlan(t)
	start := time.Now()
	var b bytes.Buffer
	if err := p.HTML(&b); err != nil {
		t.Fatal(err)
	}
	rendered := time.Since(start)
	if len(p.Plan.Outcomes) < 3000 || b.Len() > 2_000_000 {
		t.Errorf("%d listeners take %d bytes, want at least 3000 in less than 2 MB",
			len(p.Plan.Outcomes), b.Len())
	}
	tab := open(t, browser(t), p)
	loaded := eval[float64](tab,
		`performance.getEntriesByType("navigation")[0].domContentLoadedEventEnd`)
	tab.holds(p)
	tab.picture("3000-light")
	tab.filters(p)
	tab.sorts()
	pdf := tab.print("3000", chromedp.PaperLetter)
	if text, err := exec.Command("pdftotext", "-layout", pdf, "-").Output(); err == nil {
		pages := bytes.Split(text, []byte("\f"))
		row := regexp.MustCompile(`(?m)^10\.0\.\S+ +\d+ +shop-`)
		for i, page := range pages {
			if row.Match(page) && !bytes.Contains(page, []byte("Server names")) {
				t.Errorf("page %d has rows without the head of the table", i+1)
			}
		}
		if last := p.Plan.Outcomes[len(p.Plan.Outcomes)-1]; !bytes.Contains(text,
			[]byte(last.Addr.String())) {
			t.Errorf("the PDF lacks %s", last.Addr)
		}
	}
	tab.media("screen", "dark")
	tab.do(chromedp.Evaluate[chromedp.Void](
		`document.querySelector("#listeners").scrollIntoView()`))
	tab.picture("3000-dark")
	t.Logf("%d listeners: %d bytes, written in %v, loaded in %.0f ms, filtered in "+
		"%.0f ms, sorted in %.0f ms", len(p.Plan.Outcomes), b.Len(), rendered, loaded,
		tab.took(`form.elements.find.value = "10.0.1"; form.dispatchEvent(new Event("input"))`), tab.took(`document.querySelectorAll("#listeners th button")[6].click()`))
}

// took measures a script, with the layout that follows.
func (t tab) took(script string) float64 {
	t.Helper()
	return eval[float64](t, `(() => { const form = document.querySelector("#listeners form"), start = performance.now(); `+script+
		`; document.body.offsetHeight; return performance.now() - start })()`)
}

// holds counts what the page must show.
func (t tab) holds(p Plan) {
	t.equal("rows", len(p.Plan.Outcomes), len(t.column(0)))
	t.equal("visible findings", len(p.Plan.Findings),
		eval[int](t, `[...document.querySelectorAll("#findings li")].filter(x => x.checkVisibility()).length`))
	type drawnPath struct{ Link, Gateway string }
	var want []drawnPath
	for _, x := range p.Plan.Paths {
		if x.Table != 0 {
			want = append(want, drawnPath{x.Link, x.Hops[0].Via.String()})
		}
	}
	compare := func(a, b drawnPath) int { return strings.Compare(fmt.Sprint(a), fmt.Sprint(b)) }
	got := eval[[]drawnPath](t, `[...document.querySelectorAll("svg.drawing g.path")].filter(g => g.querySelector("path.before") && g.querySelector("path.after:not(.wrong)") && g.checkVisibility()).
		map(g => ({Link: g.dataset.interface, Gateway: g.dataset.gateway}))`)
	slices.SortFunc(want, compare)
	slices.SortFunc(got, compare)
	for _, x := range want {
		if !slices.Contains(got, x) {
			t.Errorf("the path %v is not drawn; drawn are %v", x, got)
		}
	}
	t.equal("tile", number(len(p.Plan.Outcomes)),
		eval[string](t, `document.querySelector(".tile dd").textContent`))
	t.equal("commands", len(p.Diff.Ops()),
		eval[int](t, `document.querySelector("pre[aria-label='Commands that do it']").textContent.trim().split("\n").length`))
	t.equal("files", len(p.Inputs),
		eval[int](t, `document.querySelectorAll("#provenance tbody tr").length`))
	t.equal("policy", true,
		eval[bool](t, `document.querySelector("meta[http-equiv=Content-Security-Policy]").content.startsWith("default-src 'none'; style-src 'sha256-")`))
	t.equal("from elsewhere", 0,
		eval[int](t, `performance.getEntriesByType("resource").length`))
}

// leavesBy looks where the lines of a path end: requests and replies after by
// its gateway, replies before by another, crossed and dashed.
func (t tab) leavesBy(own, other string) {
	got := eval[map[string]string](t, `(() => {
		const gateways = [...document.querySelectorAll("svg.drawing g.gateway")].map(g => ({name: g.querySelector(".name").textContent, box: g.querySelector("rect").getBBox()}));
		const through = y => gateways.find(g => g.box.y < y && y < g.box.y + g.box.height)?.name;
		const lines = document.querySelector("g.path[data-gateway='`+own+`']").querySelectorAll("path");
		return Object.fromEntries([...lines].map(l => [l.getAttribute("class"), through(l.getPointAtLength(l.classList.contains("request") ? 0 : l.getTotalLength()).y) + " " +
			l.getAttribute("marker-end") + " " + (getComputedStyle(l).strokeDasharray === "none" ? "solid" : "dashed")]));
	})()`)
	t.equal("lines of the path",
		map[string]string{"request": own + " url(#arrow-request) solid",
			"after":        own + " url(#arrow-after) solid",
			"before wrong": other + " url(#cross) dashed"}, got)
	red := eval[string](t,
		`getComputedStyle(document.querySelector("path.before.wrong")).stroke`)
	if c := parseColor(t.T, red); c[0] < 150 || c[1] > 100 || c[2] > 100 {
		t.Errorf("a reply that goes another way is %s, not red", red)
	}
}

func (t tab) filters(p Plan) {
	all := len(p.Plan.Outcomes)
	t.equal("said", fmt.Sprintf("%s of %s listeners shown", number(all), number(all)),
		t.shown())
	t.find("2001:DB8:1::131 443")
	t.equal("found by address and port", []string{"2001:db8:1::131"}, t.column(0))
	t.equal("said", fmt.Sprintf("1 of %s listeners shown", number(all)), t.shown())
	t.find("hidden-name.example")
	t.equal("found by a name that is folded", 1, len(t.column(0)))
	t.find("nothing like it")
	t.equal("found", 0, len(t.column(0)))
	t.click("[type=reset]")
	t.equal("after reset", all, len(t.column(0)))
	for _, box := range []string{"ready", "armed", "unchanged", "local"} {
		t.click(`[value="` + box + `"]`)
	}
	unresolved := 0
	for _, o := range p.Plan.Outcomes {
		if o.Status == routing.Unresolved {
			unresolved++
		}
	}
	t.equal("unresolved", unresolved, len(t.column(0)))
	t.click("[type=reset]")
	t.equal("after reset", all, len(t.column(0)))
}

// sorts clicks the headers: addresses and ports are numbers, not texts.
func (t tab) sorts() {
	before := t.column(0)
	if i, j := slices.Index(before, "10.0.1.9"),
		slices.Index(before, "10.0.1.10"); i < 0 || i > j {
		t.Errorf("10.0.1.9 is row %d, 10.0.1.10 row %d", i, j)
	}
	t.click("#listeners th:nth-child(1) button")
	t.equal("order", "descending", eval[string](t,
		`document.querySelector("#listeners [aria-sort]").getAttribute("aria-sort")`))
	after := t.column(0)
	slices.Reverse(after)
	t.equal("addresses, from the last to the first", before, after)
	t.click("#listeners th:nth-child(2) button")
	ports := t.column(1)
	if i, j := slices.Index(ports, "443"), slices.Index(ports, "8000-8005"); i < 0 || i > j ||
		slices.Index(ports, "53/udp") > i {
		t.Errorf("ports are not in order: 443 is row %d, 8000-8005 row %d", i, j)
	}
	t.equal("sorted columns", []string{"Port ascending"},
		eval[[]string](t, `[...document.querySelectorAll("#listeners [aria-sort]")].map(x => x.textContent + " " + x.getAttribute("aria-sort"))`))
}

// keyboard goes from the filter to the headers by Tab alone and sorts with
// Enter and with Space.
func (t tab) keyboard() {
	t.do(chromedp.Focus(chromedp.CSS("[name=find]")))
	for range 20 {
		if eval[string](t, `document.activeElement.textContent`) == "Interface" {
			break
		}
		t.do(chromedp.KeyEvent(kb.Tab))
	}
	t.equal("focus is seen", true,
		eval[bool](t, `document.activeElement.matches("th button:focus-visible") && getComputedStyle(document.activeElement).outlineStyle !== "none"`))
	t.do(chromedp.KeyEvent(kb.Enter))
	t.equal("Enter", "Interface ascending",
		eval[string](t, `(x => x.textContent + " " + x.getAttribute("aria-sort"))(document.querySelector("#listeners [aria-sort]"))`))
	t.do(chromedp.KeyEvent(" "))
	t.equal("Space", "Interface descending",
		eval[string](t, `(x => x.textContent + " " + x.getAttribute("aria-sort"))(document.querySelector("#listeners [aria-sort]"))`))
	t.equal("focus stays", "Interface", eval[string](t, `document.activeElement.textContent`))
}

// print makes a PDF with the page's own styles and returns its file.
func (t tab) print(name string, paper chromedp.PaperSize) string {
	t.Helper()
	pdf, err := chromedp.Run(t.ctx, chromedp.PrintToPDF(chromedp.PDFPaper(paper),
		chromedp.PDFPreferCSSPageSize(), chromedp.PDFPrintBackground(),
		// tags of thousands of rows take as long as all else
		func(p *cdppage.PrintToPDFParams) { p.GenerateTaggedPDF = new(false) }))
	if err != nil {
		t.Fatal(err)
	}
	pages := len(regexp.MustCompile(`/Type\s*/Page\b[^s]`).FindAll(pdf, -1))
	if !bytes.HasPrefix(pdf, []byte("%PDF-")) || pages < 2 {
		t.Errorf("the PDF has %d pages", pages)
	}
	t.Logf("%s: %d pages", name, pages)
	return t.keep(name+".pdf", pdf)
}

// paper shows the page as it is printed: nothing sticks out of the paper, and
// there is nothing to click.
func (t tab) paper(paper chromedp.PaperSize) {
	width := paper.Height*96 - 2*12/25.4*96 // landscape, less the margins
	t.media("print", "light")
	t.do(chromedp.EmulateViewport(int64(width), 800))
	if got := eval[float64](t, `document.documentElement.scrollWidth`); got > width {
		t.Errorf("printed, the page is %.0f wide, the paper %.0f", got, width)
	}
	t.equal("controls on paper", 0,
		eval[int](t, `[...document.querySelectorAll("form, nav")].filter(x => x.checkVisibility()).length`))
	t.media("screen", "light")
	t.do(chromedp.EmulateViewport(1280, 900))
}

// media sets what the page is shown on, and what its reader prefers.
func (t tab) media(medium, scheme string) {
	t.Helper()
	if _, err := chromedp.Call(t.ctx, emulation.SetEmulatedMedia,
		emulation.SetEmulatedMediaParams{Media: medium,
			Features: []*emulation.MediaFeature{{Name: "prefers-color-scheme",
				Value: scheme}}}); err != nil {
		t.Fatal(err)
	}
}

// contrast compares the text with WCAG's 4.5 : 1, and lines with 3 : 1.
func (t tab) contrast(scheme string) {
	pairs := eval[[][4]string](t, `(() => {
		const back = e => { for (; e; e = e.parentElement) { const c = getComputedStyle(e).backgroundColor; if (!/, 0\)$|transparent/.test(c)) return c } return "rgb(255, 255, 255)" };
		const texts = [...document.querySelectorAll("h1, h2, h3, p, dt, dd, th, td, b, a, code, pre, caption, label, legend, button, summary, .shown, li")];
		const out = texts.filter(e => e.checkVisibility()).map(e => ["4.5", e.outerHTML.slice(0, 80), getComputedStyle(e).color, back(e)]);
		for (const e of document.querySelectorAll("svg.drawing text")) {
			const box = e.parentElement.querySelector("rect");
			out.push(["4.5", e.outerHTML, getComputedStyle(e).fill, box && getComputedStyle(box).fill !== "none" ? getComputedStyle(box).fill : back(e)]);
		}
		for (const e of document.querySelectorAll("svg.drawing g.path > path")) out.push(["3", e.outerHTML, getComputedStyle(e).stroke, back(e)]);
		return out;
	})()`)
	if len(pairs) < 50 {
		t.Errorf("%s: %d texts", scheme, len(pairs))
	}
	for _, x := range pairs {
		least := 4.5
		if x[0] == "3" {
			least = 3
		}
		if c := contrastOf(parseColor(t.T, x[2]), parseColor(t.T, x[3])); c < least {
			t.Errorf("%s: contrast %.2f of %s on %s: %s", scheme, c, x[2], x[3], x[1])
		}
	}
}

func parseColor(t *testing.T, s string) (c [3]float64) {
	t.Helper()
	if n, err := fmt.Sscanf(s, "rgb(%f, %f, %f)", &c[0], &c[1], &c[2]); n != 3 {
		t.Fatalf("color %q: %v", s, err)
	}
	return c
}

// contrastOf is the contrast ratio of WCAG 2.
func contrastOf(a, b [3]float64) float64 {
	luminance := func(c [3]float64) float64 {
		for i := range c {
			c[i] /= 255
			if c[i] <= 0.04045 {
				c[i] /= 12.92
			} else {
				c[i] = math.Pow((c[i]+0.055)/1.055, 2.4)
			}
		}
		return 0.2126*c[0] + 0.7152*c[1] + 0.0722*c[2]
	}
	x, y := luminance(a), luminance(b)
	return (max(x, y) + 0.05) / (min(x, y) + 0.05)
}

// names walks the accessibility tree: what can be used or is a landmark has a
// name, and the table is one.
func (t tab) names() {
	tree, err := chromedp.Call(t.ctx, accessibility.GetFullAXTree,
		accessibility.GetFullAXTreeParams{})
	if err != nil {
		t.Fatal(err)
	}
	number := map[string]int{}
	for _, node := range tree.Nodes {
		if node.Ignored || node.Role == nil {
			continue
		}
		role, name := valueOf(node.Role), ""
		if node.Name != nil {
			name = valueOf(node.Name)
		}
		number[role]++
		if name == "" &&
			slices.Contains([]string{"button", "link", "searchbox", "checkbox", "image",
				"table", "region", "navigation", "search", "columnheader",
				"rowheader", "heading", "group"}, role) {
			t.Errorf("a %s has no name", role)
		}
	}
	for role, least := range map[string]int{"searchbox": 1, "checkbox": 1, "button": 8,
		"image": 1, "table": 3, "columnheader": 8, "rowheader": 3, "status": 1, "main": 1,
		"navigation": 1} {
		if number[role] < least {
			t.Errorf("%d of role %s, want at least %d: %v", number[role], role,
				least, number)
		}
	}
}

func valueOf(v *accessibility.Value) (s string) {
	_ = json.Unmarshal(v.Value, &s) // not a string: no name
	return s
}

func (t tab) headings() {
	t.equal("language", "en", eval[string](t, `document.documentElement.lang`))
	last := 0
	for i, level := range eval[[]int](t,
		`[...document.querySelectorAll("h1, h2, h3, h4")].map(h => +h.tagName[1])`) {
		if level > last+1 || level == 1 != (i == 0) {
			t.Errorf("heading %d is of level %d after one of level %d", i, level, last)
		}
		last = level
	}
	t.equal("headers without scope", 0,
		eval[int](t, `document.querySelectorAll("th:not([scope])").length`))
}

// TestPageWithoutScript: without scripts all is there, and nothing that would
// not work.
func TestPageWithoutScript(t *testing.T) {
	p := smallPlan(t)
	tab := open(t, browser(t), p)
	if _, err := chromedp.Call(tab.ctx, emulation.SetScriptExecutionDisabled,
		emulation.SetScriptExecutionDisabledParams{Value: true}); err != nil {
		t.Fatal(err)
	}
	tab.do(chromedp.Reload())
	tab.equal("rows", len(p.Plan.Outcomes), len(tab.column(0)))
	tab.equal("controls", 0,
		eval[int](tab, `[...document.querySelectorAll("button, input")].filter(x => x.checkVisibility()).length`))
}

// TestHostilePage: names that would be markup elsewhere are words on the page.
func TestHostilePage(t *testing.T) {
	tab := open(t, browser(t), hostilePlan(t))
	tab.equal("scripts that ran", false,
		eval[bool](tab, `"owned" in window || document.title === "owned"`))
	tab.equal("elements from names", []string{},
		eval[[]string](tab, `[...document.querySelectorAll("img, iframe, object, embed, base, link, script ~ script, svg script, a:not([href^='#'])")].map(e => e.outerHTML)`))
	tab.equal("attributes from names", []string{},
		eval[[]string](tab, `[...document.querySelectorAll("*")].flatMap(e => [...e.attributes]).filter(a => /^on|^style$/.test(a.name)).map(a => a.name)`))
	tab.equal("characters that a reader does not see", -1,
		eval[int](tab, `document.documentElement.textContent.search(/[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff]/)`))
	text := eval[string](tab, `document.querySelector("#listeners tbody").textContent`)
	for _, name := range hostileNames {
		if !strings.Contains(text, Escape(name)) {
			t.Errorf("%q is not among the listeners:\n%s", Escape(name), text)
		}
	}
	tab.picture("hostile")
}
