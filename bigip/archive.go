package bigip

import (
	"archive/tar"
	"bufio"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"path/filepath"
)

// gzip reads a UCS, a gzipped tar, or a gzipped text file.
func (l *loader) gzip(name string, r io.Reader) error {
	packed := &counter{r: r}
	z, err := gzip.NewReader(packed)
	if err != nil {
		return archiveError(name, err)
	}
	unpacked := bufio.NewReaderSize(&guard{name: name, limits: l.limits, r: z, packed: packed},
		1<<16)
	head, _ := unpacked.Peek(512) // the reads that follow return the error
	if isTar(head) {
		return l.tar(name, unpacked)
	}
	return archiveError(name, l.plain(name, unpacked, 0))
}

// counter counts the bytes that were read.
type counter struct {
	r io.Reader
	n int64
}

func (c *counter) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	c.n += int64(n)
	return n, err
}

// guard ends the reading of an archive that unpacks to more than any UCS has.
type guard struct {
	name   string
	limits limits
	r      io.Reader
	packed *counter
	n      int64
}

func (g *guard) Read(p []byte) (int, error) {
	n, err := g.r.Read(p)
	g.n += int64(n)
	if g.n > g.limits.total {
		return 0, refuse(g.name, fmt.Sprintf("unpacks to more than %d MB",
			g.limits.total>>20), noUCS)
	}
	if g.n > g.limits.slack && g.n > g.limits.ratio*g.packed.n {
		return 0, refuse(g.name, fmt.Sprintf("unpacks to more than %d times its size",
			g.limits.ratio), noUCS)
	}
	return n, err
}

// noUCS is the hint for an archive that may do harm.
const noUCS = "this is not a UCS of a BIG-IP; unpack it in a safe place and name the files in it"

// tar reads the members of an archive that matter. It writes nothing, follows
// no link, and skips all other members.
func (l *loader) tar(name string, r io.Reader) error {
	archive := tar.NewReader(r)
	l.member = true
	defer func() { l.member = false }()
	found := 0
	for n := 1; ; n++ {
		h, err := archive.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return archiveError(name, err)
		}
		if !filepath.IsLocal(h.Name) {
			return refuse(name, "its member "+label(h.Name)+
				" is outside of the archive's directory", noUCS)
		}
		if n > l.limits.members {
			return refuse(name,
				fmt.Sprintf("has more than %d members", l.limits.members),
				"check that it is a UCS of a BIG-IP")
		}
		if h.Typeflag != tar.TypeReg || !wanted(h.Name) {
			continue
		}
		found++
		if err := l.plain(name+":"+h.Name, archive, h.Size); err != nil {
			return archiveError(name, err)
		}
	}
	if found == 0 {
		return refuse(name,
			"has no config/bigip.conf, config/bigip_base.conf or config/BigDB.dat",
			accepted)
	}
	return nil
}

// archiveError returns what is wrong with an archive, if something is.
func archiveError(name string, err error) error {
	const fix = "copy it from the BIG-IP again"
	if errors.Is(err, io.ErrUnexpectedEOF) {
		return refuse(name, "ends in the middle: the archive is truncated", fix)
	}
	if _, ok := errors.AsType[*Error](err); ok || err == nil {
		return err
	}
	return &Error{File: name, What: "is not a readable archive", Err: err, Fix: fix}
}
