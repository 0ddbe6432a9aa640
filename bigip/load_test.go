package bigip

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// member is a member of an archive.
type member struct {
	name, data string
	link       string
}

const (
	baseConf = "net vlan /Common/outside {\n    tag 10\n}\nnet self /Common/s {\n" +
		"    address 192.0.2.2/24\n    vlan /Common/outside\n}\n"
	mainConf = "ltm virtual /Common/v {\n    destination /Common/192.0.2.1:443\n" +
		"    ip-protocol tcp\n}\n"
	shopConf = "ltm virtual /shop/w {\n    destination /shop/192.0.2.3:80\n" +
		"    ip-protocol tcp\n}\n"
	bigDBDat = "[Connection.AutoLasthop]\ndefault=enable\nvalue=disable\n"
)

// ucs are the members of a UCS: those that matter, and those that must not be
// looked at.
var ucs = []member{
	{name: "SPEC-Manifest", data: "x"},
	{name: "config/", data: ""},
	{name: "config/._bigip.conf", data: "\x00\x05\x16\x07 what macOS adds"},
	{name: "config/bigip_base.conf", data: baseConf},
	{name: "config/bigip.conf", data: mainConf},
	{name: "config/bigip_user.conf", data: "auth user admin {\n    encrypted-password HUNTER2\n}\n"},
	{name: "config/BigDB.dat", data: bigDBDat},
	{name: "config/partitions/shop.a_1-c/bigip.conf", data: shopConf},
	{name: "config/partitions/shop.a_1-c/._bigip.conf", data: "\x00"},
	{name: "config/partitions/link/bigip.conf", link: "/etc/passwd"},
	{name: "config/.backup/bigip.conf", data: "ltm virtual /Common/old { destination 192.0.2.9:80 }\n"},
	{name: "var/tmp/large", data: strings.Repeat("0123456789abcdef", 1<<14)},
}

func tarOf(t testing.TB, members []member) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, m := range members {
		h := &tar.Header{Name: m.name, Mode: 0o600, Size: int64(len(m.data)),
			Typeflag: tar.TypeReg}
		switch {
		case m.link != "":
			h.Typeflag, h.Linkname = tar.TypeSymlink, m.link
		case strings.HasSuffix(m.name, "/"):
			h.Typeflag = tar.TypeDir
		}
		if err := w.WriteHeader(h); err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(w, m.data); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func gzipOf(t testing.TB, data []byte) []byte {
	t.Helper()
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	if _, err := w.Write(data); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func TestUCS(t *testing.T) {
	const want = `4 stanzas: 4 parsed, 0 named
global disabled [x.ucs:config/BigDB.dat:3]
vlan /Common/outside domain 0 auto-lasthop default source-checking false proxy false members [] [x.ucs:config/bigip_base.conf:1]
self /Common/s 192.0.2.2/24 domain 0 vlan /Common/outside floating false [x.ucs:config/bigip_base.conf:4]
ltm virtual /Common/v standard tcp vlans all auto-lasthop default [x.ucs:config/bigip.conf:1]
  to /Common/192.0.2.1:443: 192.0.2.1/32 domain 0 port 443 of "" [x.ucs:config/bigip.conf:1]
  from "/Common/outside": routed by global disabled [x.ucs:config/BigDB.dat:3]
ltm virtual /shop/w standard tcp vlans all auto-lasthop default [x.ucs:config/partitions/shop.a_1-c/bigip.conf:1]
  to /shop/192.0.2.3:80: 192.0.2.3/32 domain 0 port 80 of "" [x.ucs:config/partitions/shop.a_1-c/bigip.conf:1]
  from "/Common/outside": routed by global disabled [x.ucs:config/BigDB.dat:3]
`
	dotted := make([]member, len(ucs))
	for i, m := range ucs {
		dotted[i] = member{"./" + m.name, m.data, m.link}
	}
	plain := tarOf(t, ucs)
	for what, data := range map[string][]byte{"gzip": gzipOf(t, plain), "tar": plain,
		"dotted": gzipOf(t, tarOf(t, dotted))} {
		c, err := Parse("x.ucs", data)
		if err != nil {
			t.Fatal(what, err)
		}
		if diff := cmp.Diff(want,
			strings.ReplaceAll(dump(c), "x.ucs:./", "x.ucs:")); diff != "" {
			t.Error(what, diff)
		}
		sum := sha256.Sum256(data)
		if diff := cmp.Diff([]File{{"x.ucs", hex.EncodeToString(sum[:])}},
			c.Files); diff != "" {
			t.Error(what, diff)
		}
	}
	c, err := Parse("bigip.conf.gz", gzipOf(t, []byte(mainConf)))
	if err != nil || len(c.Virtuals) != 1 || c.Virtuals[0].Origin != "bigip.conf.gz:1" {
		t.Errorf("a gzipped text: %v, %+v", err, c)
	}
}

// write makes the files below a directory.
func write(t *testing.T, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, data := range files {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(data), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func TestDirectories(t *testing.T) {
	unpacked := write(t, map[string]string{"config/bigip.conf": mainConf,
		"config/bigip_base.conf": baseConf, "config/partitions/shop/bigip.conf": shopConf,
		"config/partitions/shop/._bigip.conf": "\x00", "config/bigip_user.conf": "auth user x { }\n", "config/BigDB.dat": bigDBDat, "other/bigip.conf": "ltm pool x { }\n"})
	for _, tt := range []struct {
		dir      string
		virtuals []string
		files    []string
	}{
		{"", []string{"/Common/v", "/shop/w"}, []string{"config/BigDB.dat", "config/bigip.conf", "config/bigip_base.conf", "config/partitions/shop/bigip.conf"}},
		{"config", []string{"/Common/v", "/shop/w"}, []string{"BigDB.dat", "bigip.conf", "bigip_base.conf", "partitions/shop/bigip.conf"}},
		{"config/partitions", []string{"/shop/w"}, []string{"shop/bigip.conf"}},
		{"config/partitions/shop", []string{"/shop/w"}, []string{"bigip.conf"}},
	} {
		dir := filepath.Join(unpacked, tt.dir)
		c, err := Load(dir)
		if err != nil {
			t.Error(tt.dir, err)
			continue
		}
		var virtuals, files []string
		for _, v := range c.Virtuals {
			virtuals = append(virtuals, v.Name)
		}
		for _, f := range c.Files {
			files = append(files, strings.TrimPrefix(f.Name, dir+"/"))
		}
		if diff := cmp.Diff(tt.virtuals, virtuals) + cmp.Diff(tt.files, files); diff != "" {
			t.Errorf("%s: %s", tt.dir, diff)
		}
	}
}

func TestErrors(t *testing.T) {
	good := gzipOf(t, tarOf(t, ucs))
	dir := write(t, map[string]string{"empty/x": "", "secret.conf": mainConf})
	for what, tt := range map[string]struct {
		name string
		data []byte
		want string
	}{
		"parent":    {"x.ucs", gzipOf(t, tarOf(t, []member{{name: "config/bigip.conf", data: mainConf}, {name: "../../etc/cron.d/x"}})), "x.ucs: its member ../../etc/cron.d/x is outside of the archive's directory"},
		"inside":    {"x.ucs", gzipOf(t, tarOf(t, []member{{name: "config/../../x"}})), "x.ucs: its member config/../../x is outside of the archive's directory"},
		"absolute":  {"x.ucs", gzipOf(t, tarOf(t, []member{{name: "/etc/passwd\x1b"}})), `x.ucs: its member /etc/passwd\x1b is outside of the archive's directory`},
		"no member": {"x.ucs", gzipOf(t, tarOf(t, []member{{name: "etc/passwd"}})), "x.ucs: has no config/bigip.conf, config/bigip_base.conf or config/BigDB.dat"},
		"header":    {"x.ucs", good[:5], "x.ucs: ends in the middle: the archive is truncated"},
		"early":     {"x.ucs", good[:40], "x.ucs: ends in the middle: the archive is truncated"},
		"middle":    {"x.ucs", good[:len(good)/2], "x.ucs: ends in the middle: the archive is truncated"},
		"late":      {"x.ucs", good[:len(good)-100], "x.ucs: ends in the middle: the archive is truncated"},
		"plain tar": {"x.ucs", tarOf(t, ucs)[:3000], "x.ucs: ends in the middle: the archive is truncated"},
		"damaged": {"x.ucs", append(bytes.Clone(good[:200]), make([]byte, 2000)...),
			"x.ucs: is not a readable archive: archive/tar: invalid tar header"},
		"pgp":      {"x.ucs", []byte("\x8c\x0d\x04\x07\x03\x02abcdefgh"), "x.ucs: is encrypted: a UCS saved with a passphrase"},
		"pgp new":  {"x.ucs", []byte("\xc3\x0d\x04\x09\x03\x02abcdefgh"), "x.ucs: is encrypted: a UCS saved with a passphrase"},
		"pgp key":  {"x.ucs", []byte("\x85\x01\x0c\x03abcdefgh"), "x.ucs: is encrypted: a UCS saved with a passphrase"},
		"armoured": {"x.ucs", []byte("-----BEGIN PGP MESSAGE-----\n"), "x.ucs: is encrypted: a UCS saved with a passphrase"},
		"openssl":  {"x.ucs", []byte("Salted__12345678"), "x.ucs: is encrypted: a UCS saved with a passphrase"},
		"zip":      {"x.zip", []byte("PK\x03\x04"), "x.zip: is a zip archive"},
		"xz": {"x.xz", []byte("\xfd7zXZ\x00"), "x.xz: is compressed, but not with " +
			"gzip"},
		"empty":   {"x.conf", nil, "x.conf: has no stanza of a BIG-IP configuration"},
		"json":    {"as3.json", []byte("{\"class\": \"ADC\"}\n"), "as3.json: is an AS3 declaration"},
		"bigpipe": {"bigip.conf", []byte("# v10\nvirtual web {\n   destination 192.0.2.1:http\n}\nroute default inet {\n   gateway 192.0.2.254\n}\n"), "bigip.conf:2: is in the bigpipe format of BIG-IP 10 and older"},
	} {
		_, err := Parse(tt.name, tt.data)
		checkError(t, what, err, tt.want)
	}
	_, err := Load(filepath.Join(dir, "empty"))
	checkError(t, "directory", err,
		dir+"/empty: has no bigip.conf, bigip_base.conf or BigDB.dat below it")
	_, err = Load(filepath.Join(dir, "secret.conf"), filepath.Join(dir, "absent"))
	checkError(t, "absent", err, dir+"/absent: read: no such file or directory")
	_, err = Load()
	checkError(t, "nothing", err, ": has no stanza of a BIG-IP configuration")
}

func checkError(t *testing.T, what string, err error, want string) {
	t.Helper()
	e, ok := errors.AsType[*Error](err)
	if !ok || e.Error() != want || e.Hint() == "" {
		t.Errorf("%s: %v, want %s, with a hint", what, err, want)
	}
}

// TestLimits: an input larger than a limit is refused, and one of exactly that
// size is not.
func TestLimits(t *testing.T) {
	noise := make([]byte, 1<<20)
	r := rand.NewChaCha8([32]byte{})
	_, _ = r.Read(noise)
	data := gzipOf(t,
		tarOf(t, append([]member{{name: "var/noise", data: string(noise)}}, ucs...)))
	for _, tt := range []struct {
		change func(*limits)
		want   string
	}{
		{func(*limits) {}, ""},
		{func(l *limits) { l.total = 1 << 20 }, "x.ucs: unpacks to more than 1 MB"},
		{func(l *limits) { l.members = 3 }, "x.ucs: has more than 3 members"},
		{func(l *limits) { l.file = int64(len(baseConf)) - 1 }, "x.ucs:config/bigip_base.conf: is too large: more than 0 MB"},
		{func(l *limits) { l.file = int64(len(baseConf)) }, ""},
		{func(l *limits) { l.kept = int64(len(baseConf)) }, "x.ucs:config/bigip.conf: is too large: more than 0 MB"},
		{func(l *limits) { l.slack, l.ratio = 1<<20, 1 }, "x.ucs: unpacks to more than 1 times its size"},
	} {
		l := loader{limits: defaultLimits}
		tt.change(&l.limits)
		err := l.input("x.ucs", bytes.NewReader(data), 0)
		if tt.want == "" && err != nil {
			t.Error(err)
		}
		if tt.want != "" {
			checkError(t, tt.want, err, tt.want)
		}
	}
	l := loader{limits: defaultLimits}
	l.limits.members = 3
	checkError(t, "directory", l.path("../testdata"),
		"../testdata: has more than 3 files and directories")
}

// TestBombs unpacks 10 GB of zeros, as a configuration, next to one, and
// without an archive around it. They come from a stream, and the memory that
// all of it takes is bounded.
func TestBombs(t *testing.T) {
	const size = 10 << 30
	for _, name := range []string{"config/bigip.conf", "var/zeros", ""} {
		reader, writer := io.Pipe()
		done := make(chan error, 1)
		go func() { done <- writeBomb(writer, name, size) }()
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		l := loader{limits: defaultLimits}
		if name != "config/bigip.conf" {
			l.limits.slack = 8 << 20 // sooner: the first of them shows the default
		}
		err := l.input("bomb.ucs", reader, 0)
		runtime.ReadMemStats(&after)
		reader.Close()
		if err := <-done; !errors.Is(err, io.ErrClosedPipe) {
			t.Errorf("the whole bomb was read: %v", err)
		}
		checkError(t, name, err, "bomb.ucs: unpacks to more than 200 times its size")
		if n := after.TotalAlloc - before.TotalAlloc; n > 512<<20 {
			t.Errorf("%s: %d MB of memory", name, n>>20)
		} else {
			t.Logf("%q: %d MB in all", name, n>>20)
		}
	}
}

func writeBomb(w *io.PipeWriter, name string, size int64) error {
	z, err := gzip.NewWriterLevel(w, gzip.BestSpeed)
	if err != nil {
		return err
	}
	var to io.Writer = z
	if name != "" {
		archive := tar.NewWriter(z)
		if err := archive.WriteHeader(&tar.Header{Name: name, Mode: 0o600, Size: size,
			Typeflag: tar.TypeReg}); err != nil {
			return err
		}
		to = archive
	}
	zeros := make([]byte, 1<<20)
	for n := int64(0); n < size; n += int64(len(zeros)) {
		if _, err := to.Write(zeros); err != nil {
			return err
		}
	}
	return w.Close()
}

// TestWords: memory is bounded for texts that are nothing but words or headers,
// too.
func TestWords(t *testing.T) {
	for _, text := range []string{"ltm pool p {\n" + strings.Repeat("a{ ", 1000),
		strings.Repeat("ltm pool p { }\n", 100)} {
		l := loader{limits: defaultLimits}
		l.limits.words = 500
		err := l.input("x.conf", strings.NewReader(text), 0)
		if e, ok := errors.AsType[*Error](err); !ok ||
			e.What != "has more words or stanzas than any BIG-IP" {
			t.Error(err)
		}
	}
}

// TestNothingKept: a Config holds copies of what it says, and not the file
// around them with its secrets.
func TestNothingKept(t *testing.T) {
	const size = 8 << 20
	text := []byte(mainConf + "ltm pool /Common/p {\n    description \"" +
		strings.Repeat("secret ", size/7) +
		"\"\n    members {\n        /Common/192.0.2.9:80 { }\n    }\n}\n")
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	c, err := Parse("x", text)
	if err != nil || len(c.Pools) != 1 {
		t.Fatal(err, c)
	}
	runtime.GC()
	runtime.ReadMemStats(&after)
	if after.HeapAlloc > before.HeapAlloc+size/2 {
		t.Errorf("%d MB are kept of %d", (after.HeapAlloc-before.HeapAlloc)>>20, size>>20)
	}
	runtime.KeepAlive(text)
	runtime.KeepAlive(c)
}

// Of two properties of a name the later counts, and each is named once.
func TestPropertyTwice(t *testing.T) {
	c, err := Parse("x", []byte("ltm virtual a {\n    destination 10.0.0.1:80\n"+
		"    destination 10.0.0.2:80\n}\n"+
		"ltm traffic-matching-criteria m {\n    destination-address-inline 10.0.0.3\n"+
		"    z-key 1\n    a-key 1\n    z-key 2\n}\n"+
		"ltm virtual b {\n    traffic-matching-criteria m\n}\n"))
	if err != nil {
		t.Fatal(err)
	}
	if got := c.Virtuals[0].Destinations[0].Text; got != "10.0.0.2:80" {
		t.Errorf("got %s, want the later", got)
	}
	want := []string{"traffic-matching-criteria a-key", "traffic-matching-criteria z-key"}
	if got := c.Virtuals[1].Servers.Unjudged; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

// Criteria of the firewall module's protected servers say where a virtual
// server's clients connect to, as those of ltm do. If both kinds have the name,
// ltm's count.
func TestProtectedServers(t *testing.T) {
	c, err := Parse("x", []byte("ltm virtual a {\n    traffic-matching-criteria m\n}\n"+
		"ltm virtual b {\n    traffic-matching-criteria n\n}\n"+
		"security protected-servers traffic-matching-criteria m {\n"+
		"    destination-address-inline 10.0.0.3\n    destination-port-inline 80\n"+
		"    protocol tcp\n    source-address-inline 192.0.2.0/24\n}\n"+
		"security protected-servers traffic-matching-criteria n {\n"+
		"    destination-address-inline 10.0.0.5\n}\n"+
		"ltm traffic-matching-criteria n {\n    destination-address-inline 10.0.0.4\n}\n"+
		"security protected-servers netflow-protected-server p {\n"+
		"    traffic-matching-criteria m\n}\n"))
	if err != nil || len(c.Warnings) > 0 || len(c.Virtuals) != 2 {
		t.Fatal(err, c.Warnings, c.Virtuals)
	}
	for i, want := range []string{"10.0.0.3", "10.0.0.4"} {
		if got := c.Virtuals[i].Destinations; len(got) != 1 || got[0].Text != want {
			t.Errorf("got %v, want %s", got, want)
		}
	}
	if v := c.Virtuals[0]; v.Source.String() != "192.0.2.0/24" || v.Protocol != "tcp" ||
		len(v.Servers.Unjudged) > 0 {
		t.Errorf("got %s %s %q", v.Source, v.Protocol, v.Servers.Unjudged)
	}
}
