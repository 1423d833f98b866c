package main

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	genericrequest "k8s.io/apiserver/pkg/endpoints/request"
	"k8s.io/apiserver/pkg/registry/rest"
)

// What a server would draw at random or read from the clock is fixed, so that answers repeat; a placeholder
// never leaves the program.
const (
	placeholderUID     = "00000000-0000-0000-0000-000000000000"
	placeholderVersion = "0"
	generatedSuffix    = "00000"
)

var placeholderTime = metav1.NewTime(time.Unix(0, 0))

type verdict struct {
	Allowed bool           `json:"allowed"`
	Errors  []fieldError   `json:"errors"`
	Object  map[string]any `json:"object"`
}

// review judges the creation of an object, its update from old, or the update of its status.
func (s *server) review(raw, rawOld []byte, status bool) any {
	var head metav1.TypeMeta
	if err := json.Unmarshal(raw, &head); err != nil {
		return failure{fmt.Sprintf("not an object: %v", err)}
	}
	gvk := schema.FromAPIVersionAndKind(head.APIVersion, head.Kind)
	version := s.served[gvk]
	if version == nil {
		return refused(nil, unserved(gvk))
	}
	if status && version.status == nil {
		return refused(nil, plain(string(metav1.StatusReasonNotFound), "the server could not find the requested resource"))
	}
	obj, err := version.decode(gvk, raw, fromClient)
	if err != nil {
		return verdict{false, undecodable(err), content(obj)}
	}
	if rawOld == nil {
		return version.create(obj)
	}
	old, err := version.decode(gvk, rawOld, fromStorage)
	if err != nil {
		return failure{fmt.Sprintf("old cannot have been stored: %v", err)}
	}
	if old.GroupVersionKind() != gvk {
		return failure{fmt.Sprintf("old is a %s, so the object does not replace it", old.GroupVersionKind())}
	}
	if status {
		return version.update(version.status, obj, old)
	}
	return version.update(version.object, obj, old)
}

// create follows the create handler and Store.Create up to the write.
func (v *servedVersion) create(obj *unstructured.Unstructured) any {
	ctx := v.request(obj)
	judge := recording(v.object)
	rest.WipeObjectMetaSystemFields(obj)
	stampNew(obj)
	if obj.GetName() == "" && obj.GetGenerateName() != "" {
		obj.SetName(obj.GetGenerateName() + generatedSuffix)
	}
	err := rest.BeforeCreate(judge, ctx, obj)
	return v.conclude(judge, err, obj)
}

// update follows Store.Update up to the write. Fields of metadata that only the server writes are taken
// from the stored object where the new one leaves them out, as they are when a client patches or applies.
func (v *servedVersion) update(by rest.RESTCreateUpdateStrategy, obj, old *unstructured.Unstructured) any {
	stampStored(old)
	if obj.GetResourceVersion() == "" {
		obj.SetResourceVersion(old.GetResourceVersion())
	}
	if v.namespaced && old.GetNamespace() == "" {
		old.SetNamespace(metav1.NamespaceDefault)
	}
	judge := recording(by)
	err := rest.BeforeUpdate(judge, v.request(obj), obj, old)
	return v.conclude(judge, err, obj)
}

// request is made for the namespace that kubectl would use.
func (v *servedVersion) request(obj *unstructured.Unstructured) context.Context {
	namespace := metav1.NamespaceNone
	if v.namespaced {
		namespace = obj.GetNamespace()
		if namespace == "" {
			namespace = metav1.NamespaceDefault
		}
	}
	return genericrequest.WithNamespace(context.Background(), namespace)
}

// conclude answers with the object as it is read back: what is stored is pruned and defaulted once more.
func (v *servedVersion) conclude(judge strategy, err error, obj *unstructured.Unstructured) any {
	if found := judge.refusals(err); len(found) > 0 {
		unstamp(obj)
		return refused(obj, found...)
	}
	raw, err := obj.MarshalJSON()
	if err != nil {
		return failure{fmt.Sprintf("an allowed object cannot be encoded: %v", err)}
	}
	stored, err := v.decode(obj.GroupVersionKind(), raw, fromStorage)
	if err != nil {
		return failure{fmt.Sprintf("an allowed object cannot be read back: %v", err)}
	}
	unstamp(stored)
	return verdict{true, []fieldError{}, content(stored)}
}

func refused(obj *unstructured.Unstructured, found ...fieldError) verdict {
	return verdict{false, found, content(obj)}
}

func content(obj *unstructured.Unstructured) map[string]any {
	if obj == nil {
		return nil
	}
	return obj.Object
}

func stampNew(obj metav1.Object) {
	obj.SetUID(placeholderUID)
	obj.SetCreationTimestamp(placeholderTime)
}

func stampStored(obj metav1.Object) {
	if obj.GetUID() == "" {
		obj.SetUID(placeholderUID)
	}
	if created := obj.GetCreationTimestamp(); created.IsZero() {
		obj.SetCreationTimestamp(placeholderTime)
	}
	if obj.GetResourceVersion() == "" {
		obj.SetResourceVersion(placeholderVersion)
	}
}

func unstamp(obj *unstructured.Unstructured) {
	if obj.GetUID() == placeholderUID {
		unstructured.RemoveNestedField(obj.Object, "metadata", "uid")
	}
	if created := obj.GetCreationTimestamp(); created.Equal(&placeholderTime) {
		unstructured.RemoveNestedField(obj.Object, "metadata", "creationTimestamp")
	}
	if obj.GetResourceVersion() == placeholderVersion {
		unstructured.RemoveNestedField(obj.Object, "metadata", "resourceVersion")
	}
}
