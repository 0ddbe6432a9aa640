package bigip

import (
	"cmp"
	"strings"
)

// What a profile does for the clients: the types that parse HTTP, and the one
// that ends their TLS.
var (
	httpProfiles = set("http, http2, httprouter, fasthttp")
	tlsProfiles  = set("client-ssl")
)

// ownProfiles are the types of F5's own profiles, which bigip.conf does not
// have.
var ownProfiles = map[string]string{
	"/Common/http":             "http",
	"/Common/http-explicit":    "http",
	"/Common/http-transparent": "http",
	"/Common/http2":            "http2",
	"/Common/httprouter":       "httprouter",
	"/Common/fasthttp":         "fasthttp",
	"/Common/clientssl":        "client-ssl",
	"/Common/clientssl-secure": "client-ssl",

	"/Common/clientssl-insecure-compatible":   "client-ssl",
	"/Common/crypto-client-default-clientssl": "client-ssl",
	"/Common/splitsession-default-clientssl":  "client-ssl",
	"/Common/wom-default-clientssl":           "client-ssl",
}

// newProfiles returns the types of the files' profiles, by full name.
func (x *index) newProfiles() map[string]string {
	types := map[string]string{}
	for _, s := range x.stanzas {
		kind, name, ok := strings.Cut(s.name, " ")
		if ok && s.kind == "ltm profile" && (httpProfiles[kind] || tlsProfiles[kind]) {
			types[full(name, "Common")] = kind
		}
	}
	return types
}

// service reads what a virtual server speaks.
func (x *index) service(o *object) Service {
	s := Service{Protocol: cmp.Or(o.get("ip-protocol"), "any")}
	for _, name := range o.value("profiles").names() {
		own, common := full(name, o.partition), full(name, "Common")
		kind := cmp.Or(x.profiles[own], x.profiles[common], ownProfiles[common])
		s.HTTP, s.TLS = s.HTTP || httpProfiles[kind], s.TLS || tlsProfiles[kind]
	}
	return s
}
