"""Types of the arrays in stored results: pydantic writes them as lists, and reads them with their dtype."""

from typing import Annotated, Any, get_args

import numpy as np
from numpy.typing import NDArray
from pydantic import GetCoreSchemaHandler
from pydantic_core import CoreSchema, core_schema


class _AsList:
    """A numpy array in JSON. An array of no rows loses its other dimensions."""

    def __get_pydantic_core_schema__(self, source: Any, _: GetCoreSchemaHandler) -> CoreSchema:
        _shape, dtype = get_args(source)
        (scalar,) = get_args(dtype)
        return core_schema.no_info_plain_validator_function(
            lambda value: np.asarray(value, scalar),
            serialization=core_schema.plain_serializer_function_ser_schema(np.ndarray.tolist),
        )


Floats = Annotated[NDArray[np.float64], _AsList()]
Integers = Annotated[NDArray[np.int64], _AsList()]
Strings = Annotated[NDArray[np.str_], _AsList()]
