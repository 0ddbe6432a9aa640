package migrate

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"unicode"

	"lasthop/bigip"
	"lasthop/routing"
)

// manyPorts is how many ports of one destination a skeleton listens on. NGINX
// opens a socket for each, and each takes one of the 65,536 places of the mode
// last-hop.
const manyPorts = 1024

// longComment is how long a comment of a skeleton may be, in characters: NGINX
// refuses one of more than 4,096 bytes (ngx_conf_read_token).
const longComment = 300

// skeletonHead opens a skeleton.
const skeletonHead = `# A skeleton of nginx.conf, made by lasthop migrate -o nginx.
#
# It has a block for each virtual server: its name, its addresses and ports, and
# whether it is HTTP, TCP or UDP. A comment gives the reason if NGINX cannot use
# one of these. It has no pools, profiles, iRules, persistence, monitors,
# policies and certificates: add what replaces them. Until then an http server
# answers 503, and a stream server closes each connection. Addresses that are
# not on this host yet need net.ipv4.ip_nonlocal_bind=1 (and net.ipv6).
`

// skeletonModules loads the stream module if it is a dynamic one. An include
// with * may match nothing.
const skeletonModules = `
# The stream module, if it is a package of its own: Debian, Red Hat.
include /etc/nginx/modules-enabled/*.conf;
include /usr/share/nginx/modules/*.conf;
`

// Skeleton writes an nginx.conf that listens where the selected virtual servers
// did, and serves nothing yet. NGINX accepts it as it is. It reports whether it
// listens at each destination of each of them that replied to clients.
func (s Selection) Skeleton(c bigip.Config) (text string, whole bool, err error) {
	taken, _, err := s.apply(c)
	if err != nil {
		return "", false, err
	}
	text, whole = writeSkeleton(taken, len(c.Virtuals)-len(taken.Virtuals))
	return text, whole, nil
}

// writeSkeleton writes the skeleton of all virtual servers of c. leftOut is how
// many further ones the files have.
func writeSkeleton(c bigip.Config, leftOut int) (text string, whole bool) {
	s := skeleton{whole: true, claims: map[socket][]claim{}}
	for i := range c.Virtuals {
		s.virtual(&c.Virtuals[i])
	}
	var b strings.Builder
	b.WriteString(skeletonHead)
	if c.Hostname != "" {
		fmt.Fprintf(&b, "#\n# %s\n", comment("BIG-IP "+c.Hostname))
	}
	if leftOut > 0 {
		fmt.Fprintf(&b, "# Virtual servers left out by --only and --skip: %d\n", leftOut)
	}
	if s.stream.Len() > 0 {
		b.WriteString(skeletonModules)
	}
	b.WriteString("\nevents {\n}\n")
	for _, of := range []struct {
		name string
		body *strings.Builder
	}{{"http", &s.http}, {"stream", &s.stream}} {
		if of.body.Len() > 0 {
			fmt.Fprintf(&b, "\n%s {\n%s}\n", of.name, of.body)
		}
	}
	return b.String(), s.whole
}

// skeleton is an nginx.conf in the making.
type skeleton struct {
	http, stream strings.Builder
	claims       map[socket][]claim
	whole        bool
}

// socket is what NGINX opens once, whatever the context.
type socket struct {
	addr      netip.Addr
	transport routing.Transport
}

// claim is the virtual server that listens on ports of a socket.
type claim struct {
	routing.PortRange
	virtual string
}

// server is a block of a virtual server.
type server struct {
	listens  []string // "10.0.0.1:443", "10.0.0.1:53 udp"
	comments []string // why it does not listen elsewhere
}

func (s *skeleton) virtual(v *bigip.Virtual) {
	overTCP := &s.stream
	if v.HTTP {
		overTCP = &s.http
	}
	if reason, before := unserved(v); reason != "" {
		s.write(overTCP, v, server{comments: []string{"not served here: " + before}})
		return
	}
	tcp, udp := server{}, server{}
	if len(v.Destinations) == 0 {
		tcp.comments = []string{"the files do not say where its clients connect to"}
	}
	for i := range v.Destinations {
		d := &v.Destinations[i]
		if reason := unlistened(v, d); reason != "" {
			tcp.comments = append(tcp.comments,
				cmp.Or(addressText(*d), d.Text)+": "+reason)
			continue
		}
		if d.Service != "" {
			tcp.comments = append(tcp.comments, addressText(*d)+": port "+d.Service+
				" is the name of an unknown service or list")
		}
		for _, ports := range d.Ports {
			if v.Protocol != "udp" {
				s.listen(&tcp, v, d, ports, routing.TCP)
			}
			if v.Protocol != "tcp" {
				s.listen(&udp, v, d, ports, routing.UDP)
			}
		}
	}
	s.whole = s.whole && len(tcp.comments)+len(udp.comments) == 0
	if !v.HTTP {
		tcp.listens = append(tcp.listens, udp.listens...)
		tcp.comments = append(tcp.comments, udp.comments...)
		udp = server{}
	}
	s.write(overTCP, v, tcp)
	s.write(&s.stream, v, udp)
}

// unlistened returns why NGINX cannot listen on a destination; "" if it can.
func unlistened(v *bigip.Virtual, d *bigip.Destination) string {
	addr, host := d.Host()
	switch {
	case !d.Addrs.IsValid():
		return "the files do not say which address this is"
	case !host || addr.IsUnspecified():
		return "not one address; NGINX listens on addresses, name those in use"
	case addr.IsLinkLocalUnicast() || addr.Is4In6():
		return "NGINX cannot listen on such an address"
	case v.Protocol != "tcp" && v.Protocol != "udp" && v.Protocol != "any":
		return "it serves " + v.Protocol + "; NGINX serves tcp and udp"
	case d.AnyPort():
		return "it serves every port; name those in use (a listen on 1-65535 opens " +
			"65,535 sockets, and leaves no room for other listeners in the mode " +
			"last-hop)"
	}
	return ""
}

// listen adds those of the ports that no other virtual server listens on.
func (s *skeleton) listen(to *server, v *bigip.Virtual, d *bigip.Destination,
	ports routing.PortRange, transport routing.Transport) {
	addr, _ := d.Host()
	at := socket{addr, transport}
	if int(ports.Last)-int(ports.First) >= manyPorts {
		to.comments = append(to.comments, fmt.Sprintf("%s: too many ports, NGINX opens a "+
			"socket for each; name those in use", endpoint(addr, ports)))
		return
	}
	suffix := ""
	if transport == routing.UDP {
		suffix = " udp"
	}
	free, taken := s.free(at, ports)
	for _, c := range taken {
		if c.virtual == v.Name {
			continue // an entry of a list twice
		}
		to.comments = append(to.comments, fmt.Sprintf("%s%s: %s listens there",
			endpoint(addr, c.PortRange), suffix, c.virtual))
	}
	for _, p := range free {
		s.claims[at] = append(s.claims[at], claim{p, v.Name})
		to.listens = append(to.listens, endpoint(addr, p)+suffix)
	}
}

// free returns the ports of a range that none listens on, and those that
// virtual servers listen on.
func (s *skeleton) free(at socket, ports routing.PortRange) (free []routing.PortRange,
	taken []claim) {
	claims := slices.SortedFunc(slices.Values(s.claims[at]),
		func(a, b claim) int { return int(a.First) - int(b.First) })
	next := int(ports.First)
	for _, c := range claims {
		first, last := max(c.First, ports.First), min(c.Last, ports.Last)
		if first > last {
			continue
		}
		if next < int(first) {
			free = append(free, routing.PortRange{First: uint16(next), Last: first - 1})
		}
		taken = append(taken, claim{routing.PortRange{First: first, Last: last}, c.virtual})
		next = int(last) + 1
	}
	if next <= int(ports.Last) {
		free = append(free, routing.PortRange{First: uint16(next), Last: ports.Last})
	}
	return free, taken
}

// write writes the block of a virtual server; nothing if the block would be
// empty.
func (s *skeleton) write(b *strings.Builder, v *bigip.Virtual, x server) {
	if len(x.listens)+len(x.comments) == 0 {
		return
	}
	if b.Len() > 0 {
		b.WriteByte('\n')
	}
	fmt.Fprintf(b, "    # %s\n", comment(v.Kind+" "+v.Name+" ("+v.Origin+")"))
	for _, text := range x.comments {
		fmt.Fprintf(b, "    # %s\n", comment(text))
	}
	if len(x.listens) == 0 {
		return
	}
	if v.Source.IsValid() {
		fmt.Fprintf(b, "    # It served only clients of %s.\n", v.Source)
	}
	b.WriteString("    server {\n")
	tls := false
	for _, at := range x.listens {
		fmt.Fprintf(b, "        listen %s;", at)
		if v.TLS && !strings.HasSuffix(at, "udp") {
			tls = true
			fmt.Fprintf(b, "  # with a certificate: listen %s ssl;", at)
		}
		b.WriteByte('\n')
	}
	if tls {
		b.WriteString("        # ssl_certificate FILE;\n" +
			"        # ssl_certificate_key FILE;\n")
	}
	if b == &s.http {
		b.WriteString("        return 503;\n    }\n")
	} else {
		b.WriteString("        return \"\";  # in place of proxy_pass\n    }\n")
	}
}

// comment makes one line of a text of the BIG-IP's files, without what would
// end the comment or move a terminal's cursor.
func comment(text string) string {
	text = printable(text)
	if r := []rune(text); len(r) > longComment {
		return string(r[:longComment]) + "…"
	}
	return text
}

// printable replaces each character that does not print with a space: line
// breaks too.
func printable(text string) string {
	return strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return ' '
		}
		return r
	}, text)
}
