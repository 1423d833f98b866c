// Command admission says what a Kubernetes API server would say about custom resource definitions and
// about the objects written to them, without a server.
//
// It is a thin shell around the API server's own code: the decoders, the registry strategies and their
// validation are imported, so schema checks, CEL compilation and cost, defaulting, pruning, ratcheting and
// every message are the real ones for the Kubernetes version in go.mod. Only the glue that the server keeps
// private (the order of decoding steps, in decode.go) is written out here.
//
// Standard input carries one JSON request per line, standard output one JSON answer per line, in order:
//
//	{"crd": {...}}                                   -> {"name", "errors", "warnings", "costs"}
//	{"object": {...}}                                -> {"allowed", "errors", "object"}     create
//	{"object": {...}, "old": {...}}                  -> {"allowed", "errors", "object"}     update
//	{"object": {...}, "old": {...}, "status": true}  -> {"allowed", "errors", "object"}     update of /status
//
// A definition without errors is served from then on; a refused one changes nothing. An error has field,
// type, detail, and message as kubectl prints it. Errors are sorted, and one printed twice is told once. A
// request that cannot be read is answered {"error": ...}. The exit status is 2 if standard input breaks.
package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
)

type request struct {
	CRD    json.RawMessage `json:"crd"`
	Object json.RawMessage `json:"object"`
	Old    json.RawMessage `json:"old"`
	Status bool            `json:"status"`
}

type failure struct {
	Error string `json:"error"`
}

func main() {
	server := newServer()
	in := bufio.NewReader(os.Stdin)
	out := json.NewEncoder(os.Stdout) // writes each answer, with its line end, in one call
	out.SetEscapeHTML(false)
	for {
		line, readErr := in.ReadBytes('\n')
		if line = bytes.TrimSpace(line); len(line) > 0 {
			if err := out.Encode(server.answer(line)); err != nil {
				fmt.Fprintln(os.Stderr, "admission: cannot answer:", err)
				os.Exit(1)
			}
		}
		if errors.Is(readErr, io.EOF) {
			return
		}
		if readErr != nil {
			fmt.Fprintln(os.Stderr, "admission: cannot read the next request:", readErr)
			os.Exit(2)
		}
	}
}

// answer judges one request. A panic in the imported code is told like any other failure, so that one bad
// request does not end the process for the requests behind it.
func (s *server) answer(line []byte) (reply any) {
	defer func() {
		if cause := recover(); cause != nil {
			reply = failure{fmt.Sprintf("the API server's code panicked: %v", cause)}
		}
	}()
	var req request
	decoder := json.NewDecoder(bytes.NewReader(line))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&req); err != nil {
		return failure{fmt.Sprintf("not a request: %v", err)}
	}
	if decoder.More() {
		return failure{"not a request: more than one JSON value on the line"}
	}
	switch {
	case (req.CRD == nil) == (req.Object == nil):
		return failure{"not a request: give either crd or object"}
	case req.CRD != nil && (req.Old != nil || req.Status):
		return failure{"not a request: old and status belong to an object"}
	case req.Status && req.Old == nil:
		return failure{"not a request: a status is only ever updated, so give old"}
	case req.CRD != nil:
		return s.register(req.CRD)
	}
	return s.review(req.Object, req.Old, req.Status)
}
