// Engine is a model server without a model, for stories about servers that go wrong. It listens on ARBITER_PORT.
//
//	engine answer            answer every question with one word
//	engine rubbish N         answer the first N questions with a page, status 200, and every other one as it should be
//	engine fail N            the same with an error of status 500
//	engine crash CODE WORDS  say the words and end with the code
package main

import (
	"fmt"
	"net/http"
	"os"
	"strconv"
	"sync/atomic"
)

const models = `{"object":"list","data":[{"id":"any","object":"model"}]}`

const answer = `{"id":"1","object":"chat.completion","choices":[{"index":0,"finish_reason":"stop",` +
	`"message":{"role":"assistant","content":"Paris."}}],` +
	`"usage":{"prompt_tokens":1,"completion_tokens":1,"total_tokens":2}}`

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(2)
	}
}

func run(words []string) error {
	switch {
	case len(words) == 1 && words[0] == "answer":
		return serve(0, 200, "")
	case len(words) == 2 && words[0] == "rubbish":
		return serve(number(words[1]), 200, "<html>Welcome to the web</html>")
	case len(words) == 2 && words[0] == "fail":
		return serve(number(words[1]), 500, `{"error":{"message":"the tensors are upside down"}}`)
	case len(words) == 3 && words[0] == "crash":
		fmt.Fprintln(os.Stderr, words[2])
		os.Exit(number(words[1]))
	}
	return fmt.Errorf("usage: engine answer | engine rubbish N | engine fail N | engine crash CODE WORDS")
}

func number(word string) int {
	found, err := strconv.Atoi(word)
	if err != nil {
		panic(err)
	}
	return found
}

// serve gives the first wrong questions the odd answer.
func serve(wrong int, status int, odd string) error {
	var asked atomic.Int64
	http.HandleFunc("/", func(to http.ResponseWriter, question *http.Request) {
		to.Header().Set("Content-Type", "application/json")
		if question.Method != http.MethodPost {
			fmt.Fprint(to, models)
			return
		}
		if asked.Add(1) <= int64(wrong) {
			to.WriteHeader(status)
			fmt.Fprint(to, odd)
			return
		}
		fmt.Fprint(to, answer)
	})
	return http.ListenAndServe(":"+os.Getenv("ARBITER_PORT"), nil)
}
