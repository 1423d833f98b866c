package main

import (
	"fmt"

	structuralschema "k8s.io/apiextensions-apiserver/pkg/apiserver/schema"
	structuraldefaulting "k8s.io/apiextensions-apiserver/pkg/apiserver/schema/defaulting"
	schemaobjectmeta "k8s.io/apiextensions-apiserver/pkg/apiserver/schema/objectmeta"
	structuralpruning "k8s.io/apiextensions-apiserver/pkg/apiserver/schema/pruning"
	"k8s.io/apiextensions-apiserver/pkg/crdserverscheme"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	jsonserializer "k8s.io/apimachinery/pkg/runtime/serializer/json"
)

// source says where an object comes from: a client's request is decoded strictly, a stored object leniently.
type source int

const (
	fromClient source = iota
	fromStorage
)

type creator struct{}

func (creator) New(gvk schema.GroupVersionKind) (runtime.Object, error) {
	obj := &unstructured.Unstructured{}
	obj.SetGroupVersionKind(gvk)
	return obj, nil
}

// decode reads an object as the codec of the custom resource handler does: parse, coerce metadata, prune,
// drop nulls, default. The server keeps that codec private (schemaCoercingDecoder, unstructuredSchemaCoercer
// and unstructuredDefaulter in pkg/apiserver/customresource_handler.go); these are its steps in its order.
// With a strict decoding error it still returns the object.
func (v *servedVersion) decode(gvk schema.GroupVersionKind, raw []byte, from source) (*unstructured.Unstructured, error) {
	strict := from == fromClient
	parser := jsonserializer.NewSerializerWithOptions(
		jsonserializer.DefaultMetaFactory, creator{}, crdserverscheme.NewUnstructuredObjectTyper(),
		jsonserializer.SerializerOptions{Strict: strict},
	)
	decoded, _, err := parser.Decode(raw, &gvk, &unstructured.Unstructured{})
	var problems []error
	if found, ok := runtime.AsStrictDecodingError(err); ok && decoded != nil {
		problems = found.Errors()
	} else if err != nil {
		return nil, err
	}
	obj, ok := decoded.(*unstructured.Unstructured)
	if !ok {
		return nil, fmt.Errorf("a %T is not one object", decoded)
	}
	unknown, err := v.coerce(obj, from)
	if err != nil {
		return nil, err
	}
	structuraldefaulting.Default(obj.Object, v.schema)
	if strict {
		for _, path := range unknown {
			problems = append(problems, fmt.Errorf(`unknown field "%s"`, path))
		}
	}
	if len(problems) > 0 {
		return obj, runtime.NewStrictDecodingError(problems)
	}
	return obj, nil
}

// coerce is unstructuredSchemaCoercer.apply; it returns the paths of unknown fields.
func (v *servedVersion) coerce(obj *unstructured.Unstructured, from source) ([]string, error) {
	stored, track := from == fromStorage, from == fromClient
	apiVersion, kind := obj.GetAPIVersion(), obj.GetKind()
	meta, found, unknown, err := schemaobjectmeta.GetObjectMetaWithOptions(obj.Object, schemaobjectmeta.ObjectMetaOptions{
		DropMalformedFields: stored, ReturnUnknownFieldPaths: track,
	})
	if err != nil {
		return nil, err
	}
	pruned := structuralpruning.PruneWithOptions(obj.Object, v.schema, true, structuralschema.UnknownFieldPathOptions{
		TrackUnknownFieldPaths: track,
	})
	structuraldefaulting.PruneNonNullableNullsWithoutDefaults(obj.Object, v.schema)
	invalid, embedded := schemaobjectmeta.CoerceWithOptions(nil, obj.Object, v.schema, false, schemaobjectmeta.CoerceOptions{
		DropInvalidFields: stored, ReturnUnknownFieldPaths: track,
	})
	if invalid != nil {
		return nil, invalid
	}
	if stored && meta != nil && meta.Generation == 0 {
		meta.Generation = 1
	}
	obj.SetAPIVersion(apiVersion)
	obj.SetKind(kind)
	if found {
		if err := schemaobjectmeta.SetObjectMeta(obj.Object, meta); err != nil {
			return nil, err
		}
	}
	return append(append(unknown, pruned...), embedded...), nil
}
