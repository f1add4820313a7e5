"""The registry in PostgreSQL: tables of the schema `refitd` in the user's own database."""
