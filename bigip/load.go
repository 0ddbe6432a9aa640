package bigip

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"slices"
	"strings"

	"lasthop/internal/hint"
)

// limits against accidents and attacks. Numbers in bytes count unpacked data.
type limits struct {
	file    int64 // one file that is kept, in an archive or not
	kept    int64 // all of them
	total   int64 // an archive in all
	members int   // of an archive, or entries of a directory
	words   int   // of all stanzas: 30 bytes each are held
	ratio   int64 // unpacked to packed, beyond the first slack
	slack   int64
}

// defaultLimits are far above what a BIG-IP has: 20,000 virtual servers with
// all their objects make 40 MB of configuration, a UCS with endpoint inspection
// packages unpacks to 2 GB. Configurations pack 10 to 20 times, zeros 1,000
// times.
var defaultLimits = limits{file: 128 << 20, kept: 128 << 20, total: 8 << 30, members: 1 << 20,
	words: 1 << 24, ratio: 200, slack: 64 << 20}

// accepted is the hint for everything that is not a BIG-IP's configuration.
const accepted = "give bigip.conf and bigip_base.conf, a UCS or SCF, a directory with them, " +
	"answers of iControl REST, or the output of `tmsh list`"

// Parse reads one input: a configuration file, a UCS archive, BigDB.dat, output
// of tmsh, or answers of iControl REST. Its error is an *Error with a hint.
func Parse(name string, data []byte) (Config, error) {
	l := loader{limits: defaultLimits}
	if err := l.input(name, bytes.NewReader(data), int64(len(data))); err != nil {
		return Config{}, err
	}
	return l.finish(name)
}

// Load reads several inputs of one BIG-IP, files and directories, as one
// configuration; "-" is the standard input. It is Parse except for the reading;
// its error is an *Error with a hint. An input without anything used is an
// error if it is the only one, and else a warning.
func Load(paths ...string) (Config, error) {
	l := loader{limits: defaultLimits}
	for _, p := range paths {
		read := l.path
		if p == "-" {
			read = l.stdin
		}
		if err := read(p); err != nil {
			return Config{}, err
		}
	}
	return l.finish(strings.Join(paths, ", "))
}

// loader is the state of one Load.
type loader struct {
	limits limits
	kept   int64
	words  int
	member bool     // what is read is a part of an archive or a directory
	none   []*Error // inputs of which nothing is used
	builder
}

// finish makes the Config of what was read.
func (l *loader) finish(names string) (Config, error) {
	known := slices.ContainsFunc(l.stanzas, (*stanza).known)
	for _, e := range l.none {
		l.say("nothing-used", label(e.File), e.File,
			"migrate uses nothing of this file: it "+e.What, e.Fix)
	}
	c := l.build()
	switch {
	case known || c.Global.Value != "":
		return c, nil
	case len(l.none) > 0:
		return Config{}, l.none[0]
	}
	return Config{}, refuse(names, noStanza, accepted)
}

// unused records an input of which nothing is used.
func (l *loader) unused(name, data string) {
	what, fix := formatOf(data)
	l.none = append(l.none, refuse(name, what, fix))
}

func (l *loader) stdin(string) error { return l.input("stdin", os.Stdin, 0) }

func (l *loader) path(name string) error {
	f, err := os.Open(name)
	if err != nil {
		return ioError(name, err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return ioError(name, err)
	}
	if info.IsDir() {
		return l.directory(name)
	}
	return l.input(name, f, info.Size())
}

// ioError returns what went wrong in reading; it keeps an Error unchanged.
func ioError(name string, err error) *Error {
	if e, ok := errors.AsType[*Error](err); ok {
		return e
	}
	e := &Error{File: name, What: "read", Err: err, Fix: accepted}
	if pe, ok := errors.AsType[*fs.PathError](err); ok {
		e.Err = pe.Err
	}
	if errors.Is(err, fs.ErrPermission) {
		e.Fix = "let this user read " + name
	}
	return e
}

// directory reads the files of a BIG-IP that are below a directory: an unpacked
// UCS, its config directory, or a partition; and the answers of iControl REST
// that are in it, *.json.
func (l *loader) directory(name string) error {
	root, top := os.DirFS(name), "config"
	if path.Base(path.Clean(name)) == "partitions" {
		top = "config/partitions"
	}
	entries, files := 0, 0
	err := fs.WalkDir(root, ".", func(p string, d fs.DirEntry, err error) error {
		if entries++; err != nil {
			return ioError(path.Join(name, p), err)
		}
		if entries > l.limits.members {
			return refuse(name, fmt.Sprintf("has more than %d files and directories",
				l.limits.members), "name the directory with bigip.conf")
		}
		l.member = wanted(p) || wanted(path.Join(top, p))
		answer := path.Ext(p) == ".json" && p[0] != '.' && !strings.Contains(p, "/")
		if !d.Type().IsRegular() || !l.member && !answer {
			return nil
		}
		files++
		return l.path(path.Join(name, p))
	})
	l.member = false
	if err == nil && files == 0 {
		err = refuse(name, "has no bigip.conf, bigip_base.conf or BigDB.dat below it",
			accepted)
	}
	return err
}

// members are the files of a BIG-IP that matter for virtual servers, networks
// or Auto-Last-Hop. The other files hold users, scripts and backups.
var members = []string{"bigip.conf", "bigip_base.conf", "bigip_gtm.conf", "BigDB.dat"}

// wanted reports whether a path in a UCS is one of them: config/bigip.conf,
// config/partitions/NAME/bigip.conf. The `._` files that macOS adds have other
// names.
func wanted(name string) bool {
	dir, base := path.Split(path.Clean(name))
	parts := strings.Split(strings.Trim(dir, "/"), "/")
	n := len(parts)
	return slices.Contains(members, base) &&
		(parts[n-1] == "config" || n > 1 && parts[n-2] == "partitions")
}

// input reads one input, whatever it is, and keeps its hash. size is about how
// many bytes it has.
func (l *loader) input(name string, r io.Reader, size int64) error {
	sum := sha256.New()
	r = io.TeeReader(r, sum)
	head := make([]byte, 512)
	n, err := io.ReadFull(r, head)
	if err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
		return ioError(name, err)
	}
	head = head[:n]
	r = io.MultiReader(bytes.NewReader(head), r)
	if what, fix := refused(head); what != "" {
		return refuse(name, what, fix)
	}
	switch {
	case bytes.HasPrefix(head, []byte("\x1f\x8b")):
		err = l.gzip(name, r)
	case isTar(head):
		err = l.tar(name, r)
	default:
		err = l.plain(name, r, size)
	}
	if err != nil {
		return err
	}
	if _, err := io.Copy(io.Discard, r); err != nil { // what stands behind an archive
		return ioError(name, err)
	}
	l.Files = append(l.Files, File{name, hex.EncodeToString(sum.Sum(nil))})
	return nil
}

// refused recognises foreign formats by their first bytes.
func refused(head []byte) (what, fix string) {
	prefix := func(s string) bool { return bytes.HasPrefix(head, []byte(s)) }
	switch {
	case isPGP(head) || prefix("-----BEGIN PGP MESSAGE-----") || prefix("Salted__"):
		return "is encrypted: a UCS saved with a passphrase", "decrypt it first, `gpg -o " +
			"plain.ucs -d FILE`, or save one without: `tmsh save sys ucs NAME`"
	case prefix("PK\x03\x04"):
		return "is a zip archive", "unpack it and name the files in it"
	case prefix("\xfd7zXZ") || prefix("BZh") || prefix("\x28\xb5\x2f\xfd"):
		return "is compressed, but not with gzip", "decompress it first"
	}
	return "", ""
}

// isPGP recognises the first packet of an encrypted message: a session key, for
// a passphrase (versions 4 to 6) or a public key (3).
func isPGP(head []byte) bool {
	if len(head) < 4 {
		return false
	}
	switch head[0] {
	case 0x8c, 0xc3:
		return head[2] >= 4 && head[2] <= 6
	case 0x84:
		return head[2] == 3
	case 0x85:
		return head[3] == 3
	case 0xc1:
		return head[2] == 3 || head[1] >= 192 && head[3] == 3
	}
	return false
}

func isTar(head []byte) bool { return len(head) > 262 && string(head[257:262]) == "ustar" }

// plain reads a text file of about size bytes.
func (l *loader) plain(name string, r io.Reader, size int64) error {
	data, err := l.keep(name, r, size)
	if err != nil {
		return err
	}
	return l.text(name, data)
}

// keep reads a file that is held in memory.
func (l *loader) keep(name string, r io.Reader, size int64) (string, error) {
	limit := min(l.limits.file, l.limits.kept-l.kept)
	var b strings.Builder
	b.Grow(int(min(size, limit)))
	n, err := io.Copy(&b, io.LimitReader(r, limit+1))
	if err != nil {
		return "", ioError(name, err)
	}
	if n > limit {
		return "", refuse(name, fmt.Sprintf("is too large: more than %d MB", limit>>20),
			"check that it is a BIG-IP configuration")
	}
	l.kept += n
	return b.String(), nil
}

// text reads the stanzas of a file, the settings of BigDB.dat, or answers of
// iControl REST.
func (l *loader) text(name, data string) error {
	data = clean(data)
	if jsonStart.MatchString(data) {
		return l.rest(name, data)
	}
	if isBigDB(data) {
		if !bigDB(name, data, l.setting) && !l.member {
			l.unused(name, data)
		}
		return nil
	}
	s := scan{file: name, data: data, words: l.limits.words - l.words}
	if !s.run() {
		return &Error{File: name, Line: s.line,
			What: "has more words or stanzas than any BIG-IP", Fix: accepted}
	}
	l.words = l.limits.words - s.words
	if err := bigpipe(&s); err != nil {
		return err
	}
	if !l.member && !slices.ContainsFunc(s.stanzas, (*stanza).known) {
		l.unused(name, data)
		return nil
	}
	if s.strays > 0 {
		l.say("stray", "", hint.Origin(name, s.stray),
			strays(s.strays)+" outside of every stanza",
			"check whether a stanza lost its header")
	}
	if s.imish > 0 {
		l.say("imish", "", hint.Origin(name, s.imish),
			"migrate does not read the routing configuration of imish: this report "+
				"lacks the gateways that it learns", "name them with --gateway "+
				"IF=ADDR")
	}
	l.Version = cmp.Or(l.Version, s.version)
	l.stanzas = append(l.stanzas, s.stanzas...)
	return nil
}

func strays(n int) string {
	if n == 1 {
		return "this line is"
	}
	return fmt.Sprintf("%d lines, of which this is the first, are", n)
}

// bigpipeWords begin the stanzas of BIG-IP 10 and older.
var bigpipeWords = set("class, interface, monitor, nat, node, partition, pool, profile, " +
	"provision, route, rule, self, snat, snatpool, trunk, user, virtual, vlan, vlangroup")

// bigpipe refuses a file of BIG-IP 10 and older, whose stanzas have no module.
func bigpipe(s *scan) error {
	first := 0
	for _, st := range s.stanzas {
		if st.problem != unknownModule {
			return nil
		}
		if first == 0 && bigpipeWords[st.module()] {
			first = st.line
		}
	}
	if first == 0 {
		return nil
	}
	return &Error{File: s.file, Line: first,
		What: "is in the bigpipe format of BIG-IP 10 and older",
		Fix:  "load it into BIG-IP 11 or newer, which converts it, and take its bigip.conf"}
}
